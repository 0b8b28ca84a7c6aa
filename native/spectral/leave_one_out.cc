#include "spectral/leave_one_out.h"

#include <algorithm>
#include <cmath>

#include "linalg/blas.h"
#include "linalg/lapack.h"
#include "spectral/sketch.h"

namespace eigenscope {

namespace {

// Work on pairs is kept below that of this many probes.
constexpr int64_t kPairProbes = 128;

std::vector<double> times(char transA, char transB, const std::vector<double>& a,
                          const std::vector<double>& b, int64_t n) {
  std::vector<double> c(n * n);
  gemm(transA, transB, n, n, n, 1.0, a.data(), n, b.data(), n, 0.0, c.data(), n);
  return c;
}

std::vector<double> identity(int64_t n) {
  std::vector<double> matrix(n * n, 0.0);
  for (int64_t i = 0; i < n; ++i) matrix[i * n + i] = 1.0;
  return matrix;
}

void addTimes(int64_t n, double factor, const double* x, double* y) {
  for (int64_t i = 0; i < n; ++i) y[i] += factor * x[i];
}

void scale(int64_t n, double factor, double* x) {
  for (int64_t i = 0; i < n; ++i) x[i] *= factor;
}

// Which of n estimates enter pairs.
std::vector<int64_t> spread(int64_t n) {
  const int64_t most = n <= kPairProbes ? n : std::max<int64_t>(16, kPairProbes * kPairProbes / n);
  std::vector<int64_t> chosen(most);
  for (int64_t i = 0; i < most; ++i) chosen[i] = i * n / most;
  return chosen;
}

// The mean, and its variance from the changes d_ij among the chosen, row i at changes[i * chosen].
LeaveOneOut combined(const std::vector<double>& estimates, const std::vector<double>& changes,
                     int64_t chosen) {
  const int64_t n = estimates.size();
  LeaveOneOut result;
  for (double x : estimates) result.value += x / double(n);
  double squares = 0;
  for (double x : estimates) squares += (x - result.value) * (x - result.value);
  std::vector<double> rows(chosen, 0.0);
  double covariance = 0;
  for (int64_t i = 0; i < chosen; ++i) {
    for (int64_t j = 0; j < chosen; ++j)
      if (j != i) rows[i] += changes[i * chosen + j] * changes[j * chosen + i];
    rows[i] /= double(chosen - 1);
    covariance += rows[i] / double(chosen);
  }
  double noise = 0;
  for (double x : rows) noise += (x - covariance) * (x - covariance);
  noise = std::sqrt(noise / double(chosen - 1) / double(chosen));
  // The covariance is the mean of few numbers with a long tail, so that it mostly comes out too
  // small. A mean over pairs has twice the error of one over its rows; half of that is added.
  result.variance = squares / double(n - 1) / double(n) + std::max(0.0, covariance + noise);
  return result;
}

}  // namespace

XTraceMoments traceMoments(const RangeSketch& sketch) {
  XTraceMoments moments{sketch.h(), sketch.r(), {}};
  const std::vector<double> w = sketch.w();
  const int64_t n = sketch.samples();
  for (int64_t i = 0; i < n; ++i)
    moments.quad.push_back(dot(n, w.data() + i * n, moments.across.data() + i * n));
  return moments;
}

XTraceMoments squareMoments(const RangeSketch& sketch) {
  const int64_t n = sketch.samples();
  XTraceMoments moments;
  moments.core.resize(n * n);
  sketch.products().innerProducts(0, n, sketch.products(), 0, n, moments.core.data());
  const std::vector<double> r = sketch.r();
  moments.across = times('N', 'N', sketch.h(), r, n);
  for (int64_t i = 0; i < n; ++i)
    moments.quad.push_back(dot(n, r.data() + i * n, r.data() + i * n));
  return moments;
}

LeaveOneOut xtrace(const RangeSketch& sketch, const XTraceMoments& moments) {
  const int64_t n = sketch.samples(), dim = sketch.q().dim();
  const std::vector<double>&core = moments.core, &across = moments.across;
  const std::vector<double> r = sketch.r(), w = sketch.w();
  // Unit vectors s_i: without probe i, the space is what is orthogonal to s_i in coordinates of Q.
  std::vector<double> s = identity(n);
  trsm('L', 'U', 'T', 'N', n, n, 1.0, r.data(), n, s.data(), n);
  for (int64_t i = 0; i < n; ++i) scale(n, 1 / norm2(n, s.data() + i * n), s.data() + i * n);
  const std::vector<double> cs = times('N', 'N', core, s, n);
  double trace = 0;
  for (int64_t i = 0; i < n; ++i) trace += core[i * n + i];

  // The estimate from probe i against the space without the `gone` unit vectors of which `lost` is
  // the trace, `along` the squared share of the probe, `kept` the rest of w_i.
  std::vector<double> image(n);
  const auto estimate = [&](int64_t i, int64_t gone, double lost, double along, const double* kept,
                            const double* coreKept) {
    const double outside =
        std::max(0.0, sketch.probeSquares()[i] - dot(n, w.data() + i * n, w.data() + i * n));
    const double form =
        moments.quad[i] - 2 * dot(n, kept, across.data() + i * n) + dot(n, kept, coreKept);
    const double length = outside + along;
    return trace - lost + (length > 0 ? double(dim - n + gone) / length * form : 0.0);
  };

  std::vector<double> estimates(n), kept(n);
  for (int64_t i = 0; i < n; ++i) {
    const double *si = s.data() + i * n, *wi = w.data() + i * n;
    const double share = dot(n, si, wi);
    std::copy(wi, wi + n, kept.begin());
    addTimes(n, -share, si, kept.data());
    gemv('N', n, n, 1.0, core.data(), n, kept.data(), 0.0, image.data());
    estimates[i] =
        estimate(i, 1, dot(n, si, cs.data() + i * n), share * share, kept.data(), image.data());
  }

  const std::vector<int64_t> chosen = spread(n);
  const int64_t m = chosen.size();
  std::vector<double> changes(m * m, 0.0), second(n * m), rest(n * m), coreSecond(n * m),
      coreRest(n * m);
  for (int64_t a = 0; a < m; ++a) {
    const int64_t i = chosen[a];
    const double *si = s.data() + i * n, *wi = w.data() + i * n;
    const double share = dot(n, si, wi);
    std::fill(second.begin(), second.end(), 0.0);
    for (int64_t b = 0; b < m; ++b) {
      double* p = second.data() + b * n;
      double* left = rest.data() + b * n;
      std::copy(wi, wi + n, left);
      addTimes(n, -share, si, left);
      if (b == a) continue;
      // Twice, and the small component first made of length 1: s_i and s_j may nearly agree.
      std::copy_n(s.data() + chosen[b] * n, n, p);
      for (int pass = 0; pass < 2; ++pass) {
        addTimes(n, -dot(n, si, p), si, p);
        const double length = norm2(n, p);
        if (length > 0) scale(n, 1 / length, p);
      }
      addTimes(n, -dot(n, p, left), p, left);
    }
    gemm('N', 'N', n, m, n, 1.0, core.data(), n, second.data(), n, 0.0, coreSecond.data(), n);
    gemm('N', 'N', n, m, n, 1.0, core.data(), n, rest.data(), n, 0.0, coreRest.data(), n);
    for (int64_t b = 0; b < m; ++b) {
      if (b == a) continue;
      const double* p = second.data() + b * n;
      const double more = dot(n, p, wi);
      const double without =
          estimate(i, 2, dot(n, si, cs.data() + i * n) + dot(n, p, coreSecond.data() + b * n),
                   share * share + more * more, rest.data() + b * n, coreRest.data() + b * n);
      changes[a * m + b] = estimates[i] - without;
    }
  }
  return combined(estimates, changes, m);
}

bool xnystrace(const RangeSketch& sketch, LeaveOneOut& result, double& least) {
  const int64_t n = sketch.samples(), dim = sketch.q().dim();
  if (sketch.rank() < n)
    throw Error(ErrorKind::Internal, "xnystrace: the shifted sketch has not full rank");
  const std::vector<double> r = sketch.r(), w = sketch.w();
  // B = Omega^T (A + shift I) Omega = C^T C.
  std::vector<double> factor = times('T', 'N', w, r, n);
  symmetrise(factor, n);
  const std::vector<double> core = factor;
  if (cholesky(n, factor.data(), n) != 0) {
    std::vector<double> matrix = core;
    const std::vector<double> values = symmetricEigenvalues(n, matrix.data(), n);
    least = values.front() / std::max(std::abs(values.front()), std::abs(values.back()));
    return false;
  }
  for (int64_t j = 0; j < n; ++j)
    for (int64_t i = j + 1; i < n; ++i) factor[j * n + i] = 0.0;
  std::vector<double> inverse = identity(n);
  trsm('L', 'U', 'N', 'N', n, n, 1.0, factor.data(), n, inverse.data(), n);
  // With E = R C^-1, the Nystrom approximation is Q E E^T Q^T; without the probes of a set it loses
  // U (M)^-1 U^T, U = Y B^-1 and M = B^-1 on the set. Rows c_i of C^-1 have the products M; columns
  // u_i of E C^-T are those of U in coordinates of Q.
  const std::vector<double> e = times('N', 'N', r, inverse, n);
  const std::vector<double> u = times('N', 'T', e, inverse, n);
  std::vector<double> c(n * n);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j) c[i * n + j] = inverse[j * n + i];
  double trace = -sketch.shift() * double(dim);
  for (double x : e) trace += x * x;

  std::vector<double> gram = sketch.gram();
  if (cholesky(n, gram.data(), n) != 0)
    throw Error(ErrorKind::Internal, "random vectors came out dependent");
  std::vector<double> g = identity(n);
  trsm('L', 'U', 'T', 'N', n, n, 1.0, gram.data(), n, g.data(), n);
  g = times('T', 'N', g, g, n);  // the inverse of Omega^T Omega

  std::vector<double> estimates(n), lost(n);
  for (int64_t i = 0; i < n; ++i) {
    const double *ci = c.data() + i * n, *ui = u.data() + i * n;
    const double square = dot(n, ci, ci);
    lost[i] = dot(n, ui, ui) / square;
    estimates[i] = trace - lost[i] + double(dim - n + 1) * g[i * n + i] / square;
  }
  const std::vector<int64_t> chosen = spread(n);
  const int64_t m = chosen.size();
  std::vector<double> changes(m * m, 0.0), other(n), image(n);
  for (int64_t a = 0; a < m; ++a)
    for (int64_t b = 0; b < m; ++b) {
      if (a == b) continue;
      const int64_t i = chosen[a], j = chosen[b];
      const double *ci = c.data() + i * n, *cj = c.data() + j * n;
      const double inner = dot(n, ci, cj), squareI = dot(n, ci, ci), squareJ = dot(n, cj, cj);
      std::copy_n(cj, n, other.begin());
      addTimes(n, -inner / squareI, ci, other.data());
      std::copy_n(u.data() + j * n, n, image.begin());
      addTimes(n, -inner / squareI, u.data() + i * n, image.data());
      const double left = dot(n, other.data(), other.data());
      if (!(left > 0)) continue;
      const double lostToo = dot(n, image.data(), image.data()) / left;
      // Of c_i beside c_j the same share is left.
      const double form = squareJ / (left * squareI);
      const double gi = g[i * n + i], gj = g[j * n + j], gij = g[j * n + i];
      const double length = gj / (gi * gj - gij * gij);
      const double without = trace - lost[i] - lostToo + double(dim - n + 2) * form / length;
      changes[a * m + b] = estimates[i] - without;
    }
  result = combined(estimates, changes, m);
  return true;
}

}  // namespace eigenscope
