/* Configure-time check: routines from every part of BLAS and LAPACK the core calls must link. */
extern void sgemm_(void), dgemm_(void), dsyevd_(void), ssyevd_(void), dsteqr_(void), dstedc_(void);
extern void dgeqrf_(void), dorgqr_(void), dgesdd_(void), dpotrf_(void), dsyevr_(void),
    dstevd_(void);
extern void openblas_set_num_threads(int);

typedef void (*routine)(void);
volatile routine table[] = {sgemm_,  dgemm_,  dsyevd_, ssyevd_, dsteqr_, dstedc_,
                            dgeqrf_, dorgqr_, dgesdd_, dpotrf_, dsyevr_, dstevd_};

int main(void) {
  openblas_set_num_threads(1);
  return table[0] == 0;
}
