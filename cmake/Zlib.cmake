# Defines eigenscope_zlib, which inflates compressed .npz files.
#
# The static archive is preferred, as for OpenBLAS. Debian's is compiled without -fPIC; it links into
# the addon all the same because -Bsymbolic and --exclude-libs keep its symbols local.

find_path(ZLIB_INCLUDE_DIR NAMES zlib.h)
find_library(ZLIB_STATIC NAMES libz.a)
find_library(ZLIB_SHARED NAMES z)

add_library(eigenscope_zlib INTERFACE)
if(ZLIB_INCLUDE_DIR AND ZLIB_STATIC)
  target_link_libraries(eigenscope_zlib INTERFACE "${ZLIB_STATIC}")
elseif(ZLIB_INCLUDE_DIR AND ZLIB_SHARED)
  target_link_libraries(eigenscope_zlib INTERFACE "${ZLIB_SHARED}")
  message(STATUS "eigenscope: no libz.a found; the addon will need libz.so where it runs")
else()
  message(FATAL_ERROR "eigenscope: zlib was not found. On Debian and Ubuntu: "
                      "apt-get install zlib1g-dev")
endif()
target_include_directories(eigenscope_zlib SYSTEM INTERFACE "${ZLIB_INCLUDE_DIR}")
