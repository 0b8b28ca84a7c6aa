# Defines eigenscope_blas: BLAS and LAPACK with Fortran names (dgemm_, dsyevd_, ...).
#
# The static archive is preferred: the addon then needs nothing but glibc where it runs. Its only
# undefined Fortran runtime symbols are two trivial ones that cmake/fortran_runtime.c supplies;
# where an archive wants more, libgfortran is linked statically instead.

set(EIGENSCOPE_FORTRAN_SHIM "${CMAKE_CURRENT_LIST_DIR}/fortran_runtime.c")
add_library(eigenscope_fortran STATIC "${EIGENSCOPE_FORTRAN_SHIM}")
set_target_properties(eigenscope_fortran PROPERTIES POSITION_INDEPENDENT_CODE ON)

add_library(eigenscope_blas INTERFACE)

find_library(OPENBLAS_STATIC NAMES libopenblas.a
             PATH_SUFFIXES openblas-pthread openblas x86_64-linux-gnu/openblas-pthread)
find_library(OPENBLAS_SHARED NAMES openblas PATH_SUFFIXES openblas-pthread)

function(eigenscope_try_blas result)
  try_compile(ok "${CMAKE_BINARY_DIR}/blas-check"
    SOURCES "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/blas_check.c" ${EIGENSCOPE_FORTRAN_SHIM}
    LINK_LIBRARIES ${ARGN} m Threads::Threads
    OUTPUT_VARIABLE log)
  set(${result} ${ok} PARENT_SCOPE)
  set(EIGENSCOPE_BLAS_LOG "${log}" PARENT_SCOPE)
endfunction()

set(EIGENSCOPE_BLAS_FOUND FALSE)
if(OPENBLAS_STATIC)
  eigenscope_try_blas(plain "${OPENBLAS_STATIC}")
  if(plain)
    set(EIGENSCOPE_BLAS_FOUND TRUE)
    target_link_libraries(eigenscope_blas INTERFACE "${OPENBLAS_STATIC}" eigenscope_fortran)
  else()
    eigenscope_try_blas(with_gfortran "${OPENBLAS_STATIC}" -l:libgfortran.a -l:libquadmath.a)
    if(with_gfortran)
      set(EIGENSCOPE_BLAS_FOUND TRUE)
      target_link_libraries(eigenscope_blas INTERFACE
        "${OPENBLAS_STATIC}" eigenscope_fortran -l:libgfortran.a -l:libquadmath.a)
    endif()
  endif()
  set(EIGENSCOPE_BLAS_FILE "${OPENBLAS_STATIC}")
endif()
if(NOT EIGENSCOPE_BLAS_FOUND AND EIGENSCOPE_SHARED_BLAS AND OPENBLAS_SHARED)
  eigenscope_try_blas(shared "${OPENBLAS_SHARED}")
  if(shared)
    set(EIGENSCOPE_BLAS_FOUND TRUE)
    set(EIGENSCOPE_BLAS_FILE "${OPENBLAS_SHARED}")
    target_link_libraries(eigenscope_blas INTERFACE "${OPENBLAS_SHARED}")
    message(WARNING "eigenscope: linking the shared OpenBLAS; the result runs only where it is installed")
  endif()
endif()
if(NOT EIGENSCOPE_BLAS_FOUND)
  message(FATAL_ERROR "eigenscope: no usable OpenBLAS with LAPACK found. On Debian and Ubuntu: "
                      "apt-get install libopenblas-dev\n${EIGENSCOPE_BLAS_LOG}")
endif()
message(STATUS "eigenscope: BLAS and LAPACK from ${EIGENSCOPE_BLAS_FILE}")
