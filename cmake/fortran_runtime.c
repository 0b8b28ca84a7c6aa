/*
 * The part of gfortran's runtime that LAPACK inside OpenBLAS refers to, so that linking it needs
 * no Fortran compiler. Weak: a real libgfortran on the link line takes precedence.
 */
#include <stddef.h>
#include <string.h>
#include <time.h>

#define FORTRAN_RUNTIME __attribute__((weak, visibility("hidden")))

/* dest = a // b, cut or padded with blanks to dest_length (used to build option strings). */
FORTRAN_RUNTIME void _gfortran_concat_string(size_t dest_length, char* dest, size_t a_length,
                                             const char* a, size_t b_length, const char* b) {
  size_t from_a = a_length < dest_length ? a_length : dest_length;
  size_t room = dest_length - from_a;
  size_t from_b = b_length < room ? b_length : room;
  memmove(dest, a, from_a);
  memmove(dest + from_a, b, from_b);
  memset(dest + from_a + from_b, ' ', room - from_b);
}

/* ETIME(T): CPU seconds, also in T(1). A gfortran array descriptor starts with its base address. */
FORTRAN_RUNTIME float _gfortran_etime(void* descriptor) {
  float seconds = (float)clock() / (float)CLOCKS_PER_SEC;
  float* times = descriptor ? *(float**)descriptor : NULL;
  if (times) {
    times[0] = seconds;
    times[1] = 0;
  }
  return seconds;
}
