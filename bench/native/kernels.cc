// How fast is each way of doing a matrix product and a convolution on this machine, one thread?
// The rules in run/kernels/gemm.cc and conv.cc rest on this table.
//
//   cmake -S . -B build && cmake --build build --target eigenscope_core
//   c++ -std=c++20 -O2 -Inative bench/native/kernels.cc build/libeigenscope_core.a
//       build/libeigenscope_fortran.a -l:libopenblas.a -lm -ldl -lpthread -o kernels && ./kernels
//
// Figures are GFLOP/s of the fastest repetition by the thread's own CPU time.
#include <time.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <new>
#include <string>
#include <vector>

#include "run/kernels/blocked.h"
#include "run/kernels/conv.h"
#include "run/kernels/dot.h"
#include "run/kernels/gemm.h"
#include "run/onednn.h"

extern "C" {
void openblas_set_num_threads(int);
char* openblas_get_corename();
void sgemm_(const char*, const char*, const int*, const int*, const int*, const float*,
            const float*, const int*, const float*, const int*, const float*, float*, const int*,
            std::size_t, std::size_t);
void dgemm_(const char*, const char*, const int*, const int*, const int*, const double*,
            const double*, const int*, const double*, const int*, const double*, double*,
            const int*, std::size_t, std::size_t);
}

namespace {

using namespace eigenscope;

double now() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

template <class F>
double rate(double flops, F run) {
  const auto seconds = [&](int64_t calls) {
    const double before = now();
    for (int64_t i = 0; i < calls; ++i) run();
    return (now() - before) / static_cast<double>(calls);
  };
  int64_t calls = 1;
  while (seconds(calls) * static_cast<double>(calls) < 5e-5) calls *= 2;
  double best = 1e9;
  const double start = now();
  while (now() - start < 0.05) best = std::min(best, seconds(calls));
  return flops / best * 1e-9;
}

template <class T>
struct Buffer {
  explicit Buffer(int64_t n) : data(new(std::align_val_t{64}) T[static_cast<size_t>(n) + 16]) {
    for (int64_t i = 0; i < n; ++i) data[i] = static_cast<T>((i % 13) * 0.01);
  }
  ~Buffer() { ::operator delete[](data, std::align_val_t{64}); }
  Buffer(const Buffer&) = delete;
  T* data;
};

void blas(char ta, char tb, int m, int n, int k, const float* a, int lda, const float* b, int ldb,
          float* c) {
  const float one = 1;
  sgemm_(&tb, &ta, &n, &m, &k, &one, b, &ldb, a, &lda, &one, c, &n, 1, 1);
}
void blas(char ta, char tb, int m, int n, int k, const double* a, int lda, const double* b, int ldb,
          double* c) {
  const double one = 1;
  dgemm_(&tb, &ta, &n, &m, &k, &one, b, &ldb, a, &lda, &one, c, &n, 1, 1);
}

template <class T>
void products(const std::vector<std::array<int, 3>>& sizes) {
  std::printf("\nC += A B, f%d: OpenBLAS / oneDNN / ours / what gemm() picks\n",
              static_cast<int>(sizeof(T) * 8));
  for (const auto& [m, n, k] : sizes) {
    const Buffer<T> a(int64_t{m} * k), b(int64_t{k} * n), c(int64_t{m} * n);
    const double flops = 2.0 * m * n * k;
    std::printf("%5d x%5d x%5d", m, n, k);
    for (const std::string way : {"NN", "NT", "TN"}) {
      const bool ta = way[0] == 'T', tb = way[1] == 'T';
      const int lda = ta ? m : k, ldb = tb ? k : n;
      const int aRow = ta ? 1 : k, aCol = ta ? m : 1, bRow = tb ? 1 : n, bCol = tb ? k : 1;
      std::printf(" | %s %6.1f", way.c_str(), rate(flops, [&] {
                    blas(way[0], way[1], m, n, k, a.data, lda, b.data, ldb, c.data);
                  }));
      if constexpr (sizeof(T) == 4)
        std::printf(" %6.1f", onednn::available() ? rate(flops,
                                                         [&] {
                                                           onednn::sgemm(ta, tb, m, n, k, a.data,
                                                                         lda, b.data, ldb, true,
                                                                         c.data, n);
                                                         })
                                                  : 0.0);
      std::printf(" %6.1f", hasBlockedGemm() ? rate(flops,
                                                    [&] {
                                                      blockedGemm<T>(m, n, k, a.data, aRow, aCol,
                                                                     b.data, bRow, bCol, c.data, n,
                                                                     true);
                                                    })
                                             : 0.0);
      std::printf(" %6.1f", rate(flops, [&] {
                    gemm<T>(m, n, k, a.data, aRow, aCol, b.data, bRow, bCol, c.data, n, true);
                  }));
    }
    std::printf("\n");
    std::fflush(stdout);
  }
}

template <class T>
void contraction(const char* labels, const Shape& a, const Shape& b) {
  const DotPlan plan = planDot(labels, a, b);
  const Buffer<T> x(count(a)), y(count(b)), out(plan.outElements);
  const Buffer<T> scratch(scratchBytes(plan, sizeof(T)) / static_cast<int64_t>(sizeof(T)));
  int64_t calls = 1;
  for (const auto& loop : plan.loops) calls *= loop.size;
  std::printf("%-20s %-18s %-18s %6.1f  (%ld calls of %ld x %ld x %ld)\n", labels, show(a).c_str(),
              show(b).c_str(),
              rate(plan.flops, [&] { runDot(plan, x.data, y.data, out.data, true, scratch.data); }),
              static_cast<long>(calls), static_cast<long>(plan.m), static_cast<long>(plan.n),
              static_cast<long>(plan.k));
}

template <class T>
void contractions() {
  std::printf("\nContractions, f%d\n", static_cast<int>(sizeof(T) * 8));
  contraction<T>("bi,oi->bo", {128, 784}, {512, 784});
  contraction<T>("Kbi,oi->Kbo", {4, 128, 784}, {512, 784});
  contraction<T>("bi,Koi->Kbo", {128, 784}, {4, 512, 784});
  contraction<T>("Kbo,oi->Kbi", {4, 128, 512}, {512, 512});
  contraction<T>("Kbi,bo->Koi", {4, 128, 512}, {128, 512});
  contraction<T>("bi,Kbo->Koi", {128, 784}, {4, 128, 512});
  contraction<T>("bti,oi->bto", {8, 64, 128}, {384, 128});
  contraction<T>("bti,bto->oi", {8, 64, 128}, {8, 64, 512});
  contraction<T>("bthd,bshd->bhts", {8, 64, 4, 32}, {8, 64, 4, 32});
  contraction<T>("bhts,bshd->bthd", {8, 4, 64, 64}, {8, 64, 4, 32});
  contraction<T>("bhts,bthd->bshd", {8, 4, 64, 64}, {8, 64, 4, 32});
}

ConvShape square(int64_t batch, int64_t size, int64_t in, int64_t out, int64_t kernel,
                 int64_t stride, int64_t pad, int64_t groups = 1) {
  const int64_t result = (size + 2 * pad - kernel) / stride + 1;
  return {batch,  size,   size, in,
          result, result, out,  {{kernel, kernel}, {stride, stride}, {1, 1}, {pad, pad}, groups}};
}

template <class T>
double convRate(ConvForm form, const ConvShape& s, ConvEngine engine, bool add, char* which) {
  const ConvPlan plan = planConv(form, s, Lead::None, 1, precisionOf<T>(), add, engine);
  *which = plan.name()[0];
  const int64_t most =
      std::max({s.B * s.H * s.W * s.C, s.B * s.OH * s.OW * s.O,
                s.O * s.window.kernel[0] * s.window.kernel[1] * s.C / s.window.groups});
  const Buffer<T> a(most), b(most), out(most);
  const Buffer<T> scratch(scratchBytes(plan) / static_cast<int64_t>(sizeof(T)));
  return rate(plan.flops, [&] { runConv(plan, a.data, b.data, out.data, add, scratch.data); });
}

void convolutions() {
  std::printf("\nConvolutions: forward, input, weight, and the first two adding to the result\n");
  std::printf(
      "(o oneDNN, i im2col, d depthwise; weights brought into oneDNN's layout each time)\n");
  const std::vector<std::pair<const char*, ConvShape>> rows = {
      {"LeNet 1->6 k5, 32", square(32, 28, 1, 6, 5, 1, 2)},
      {"LeNet 6->16 k5, 32", square(32, 14, 6, 16, 5, 1, 0)},
      {"3->16, 8", square(8, 32, 3, 16, 3, 1, 1)},
      {"16->16, 8", square(8, 32, 16, 16, 3, 1, 1)},
      {"16->32 s2, 8", square(8, 32, 16, 32, 3, 2, 1)},
      {"16->32 k1 s2, 8", square(8, 32, 16, 32, 1, 2, 0)},
      {"32->32, 8", square(8, 16, 32, 32, 3, 1, 1)},
      {"32->64 s2, 8", square(8, 16, 32, 64, 3, 2, 1)},
      {"64->64, 8", square(8, 8, 64, 64, 3, 1, 1)},
      {"64->64, 32", square(32, 8, 64, 64, 3, 1, 1)},
      {"depthwise 64, 8", square(8, 14, 64, 64, 3, 1, 1, 64)},
      {"4 groups of 16, 8", square(8, 14, 64, 64, 3, 1, 1, 4)},
      {"64->128 k1, 8", square(8, 14, 64, 128, 1, 1, 0)}};
  for (const auto& [name, shape] : rows) {
    std::printf("%-20s f32", name);
    char which;
    for (ConvForm form : {ConvForm::Forward, ConvForm::Input, ConvForm::Weight}) {
      const double value = convRate<float>(form, shape, ConvEngine::Auto, false, &which);
      std::printf(" %6.1f%c", value, which);
    }
    for (ConvForm form : {ConvForm::Forward, ConvForm::Input})
      std::printf(" +%6.1f", convRate<float>(form, shape, ConvEngine::Auto, true, &which));
    std::printf(" | f32 im2col");
    for (ConvForm form : {ConvForm::Forward, ConvForm::Input, ConvForm::Weight})
      std::printf(" %6.1f", convRate<float>(form, shape, ConvEngine::Im2col, false, &which));
    std::printf(" | f64");
    for (ConvForm form : {ConvForm::Forward, ConvForm::Input, ConvForm::Weight}) {
      const double value = convRate<double>(form, shape, ConvEngine::Auto, false, &which);
      std::printf(" %6.1f%c", value, which);
    }
    std::printf("\n");
    std::fflush(stdout);
  }
}

}  // namespace

int main() {
  openblas_set_num_threads(1);
  std::printf("OpenBLAS kernels: %s; oneDNN: %s%s; AVX-512: %s\n", openblas_get_corename(),
              onednn::version().c_str(), onednn::refusal().c_str(),
              hasBlockedGemm() ? "yes" : "no");
  const std::vector<std::array<int, 3>> sizes = {
      {128, 512, 784},  {256, 512, 512},   {64, 512, 512},  {512, 784, 256}, {256, 10, 512},
      {10, 512, 256},   {16, 512, 256},    {512, 384, 128}, {512, 128, 512}, {128, 384, 1024},
      {64, 64, 32},     {64, 32, 64},      {64, 64, 64},    {100, 100, 100}, {32, 120, 400},
      {2048, 16, 144},  {16, 144, 2048},   {2048, 48, 144}, {6, 25, 6000},   {16, 16, 16},
      {512, 2048, 512}, {1024, 1024, 1024}};
  products<float>(sizes);
  products<double>(sizes);
  contractions<float>();
  contractions<double>();
  convolutions();
}
