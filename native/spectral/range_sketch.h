#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "spectral/probes.h"
#include "spectral/ritz.h"

namespace eigenscope {

// Small matrices that grow, by columns.
using Columns = std::vector<std::vector<double>>;

// The columns one after the other, each with `rows` entries, zeros where they are shorter.
std::vector<double> packed(const Columns& columns, int64_t rows);

// A sketch A Omega = Q R of the range of an operator, grown probe by probe, and the small matrices
// from which estimators that leave probes out are computed. Omega is not kept.
class RangeSketch {
 public:
  struct Plan {
    Probes probes = Probes::Gaussian;
    uint64_t seed = 0;
    uint64_t column = 0;  // of the first probe
    int64_t block = 16;
    int threads = 1;
    // Adds this many roundings of A's size to its diagonal, so that the sketch has full rank.
    double shiftRoundings = 0;
    bool second = true;         // H = Q^T A Q: as many products again
    bool keepProducts = false;  // A Q itself
    bool overlaps = true;       // W = Q^T Omega
    bool gram = false;          // Omega^T Omega
  };

  RangeSketch(ProductCounter& a, const Plan& plan);

  // Takes probes until there are so many; stops early when they span the range of A.
  void grow(int64_t samples);

  int64_t samples() const { return samples_; }
  int64_t rank() const { return rank_; }
  // Whether a probe added nothing to Q: then A = Q Q^T A Q Q^T up to rounding.
  bool exhausted() const { return exhausted_; }
  double shift() const { return shift_; }
  double asymmetry() const { return asymmetry_; }  // relative
  // Root mean square of ||A omega||, the Frobenius norm of A roughly.
  double frobenius() const;
  // Sum of ||A q|| over Q; bounds what rounding does to tr Q^T A Q.
  double productLengths() const { return productLengths_; }

  const Basis& q() const { return q_; }
  const Basis& products() const { return z_; }

  std::vector<double> r() const { return packed(r_, rank_); }                // rank x samples
  std::vector<double> w() const { return packed(w_, rank_); }                // rank x samples
  std::vector<double> h() const { return packed(h_, rank_); }                // rank x rank
  std::vector<double> gram() const { return packed(gram_, samples_); }       // samples x samples
  const std::vector<double>& probeSquares() const { return probeSquares_; }  // ||omega||^2

  // Called for the columns that join Q, with their products A q in columns 0 .. count - 1.
  std::function<void(int64_t first, int64_t count, Basis& products)> onColumns;

 private:
  void reserve(int64_t samples);
  void take(int64_t count);
  void overlapsWithOld(int64_t oldSamples);

  ProductCounter& a_;
  Plan plan_;
  int64_t dim_;
  Basis q_, z_, omega_, work_;
  std::vector<double> y_;
  int64_t samples_ = 0, rank_ = 0;
  bool exhausted_ = false;
  double shift_ = 0, asymmetry_ = 0, longest_ = 0, squares_ = 0, productLengths_ = 0;
  std::vector<double> probeSquares_;
  Columns r_, w_, h_, gram_;
};

}  // namespace eigenscope
