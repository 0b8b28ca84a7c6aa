# Included before project(): where the default compiler is GCC 11 or older, which cannot compile the
# functions that are cloned for several instruction sets, takes a newer one that is installed.
if(NOT DEFINED CMAKE_CXX_COMPILER AND NOT DEFINED ENV{CXX})
  execute_process(COMMAND g++ -dumpversion OUTPUT_VARIABLE gcc_version
                  OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(gcc_version AND gcc_version VERSION_LESS 12)
    foreach(major 12 13 14 15)
      find_program(EIGENSCOPE_GXX_${major} g++-${major})
      find_program(EIGENSCOPE_GCC_${major} gcc-${major})
      if(EIGENSCOPE_GXX_${major} AND EIGENSCOPE_GCC_${major})
        set(CMAKE_CXX_COMPILER "${EIGENSCOPE_GXX_${major}}")
        set(CMAKE_C_COMPILER "${EIGENSCOPE_GCC_${major}}")
        break()
      endif()
    endforeach()
  endif()
endif()
