#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "spectral/interval.h"
#include "spectral/ritz.h"

namespace eigenscope {

// When sampling ends.
struct StopRule {
  // Relative standard error, and an absolute one: sampling ends when one that is not 0 is reached.
  double tol = 0;
  double standardError = 0;
  int64_t products = 0;     // spend so many, whatever the error; no tol and no standardError then
  int64_t maxProducts = 0;  // for tol and standardError; 0: 1000
  // Bytes for what a method keeps; 0: no limit.
  int64_t memoryBudget = 0;
};

struct SampledEstimate : Estimate {
  bool converged = true;  // the requested error was reached, or none was requested
  std::string reason;     // why not
  std::string method;     // what ran, "exact" where unit vectors cost no more
  int64_t products = 0;
  int64_t samples = 0;  // random vectors; 0 where exact
  double scale = 0;     // what tol is relative to
  std::vector<std::string> warnings;
};

// An estimator that becomes more accurate sample by sample.
class Sampler {
 public:
  struct Shape {
    std::string method;
    int64_t cost = 1;   // products a sample
    int64_t least = 2;  // samples
    int64_t pilot = 16;
    int64_t vectors = 0;  // kept a sample
    bool bends = false;   // the error may fall faster than the root of the samples
  };
  virtual ~Sampler() = default;
  virtual Shape shape() const = 0;
  virtual void grow(int64_t samples) = 0;
  virtual Estimate estimate() = 0;
  virtual int64_t samples() const = 0;
  // What tol is relative to, given the estimate.
  virtual double scale(const Estimate& estimate) const = 0;
  // No further sample would change anything.
  virtual bool exhausted() const { return false; }
};

// Checks the rule, grows the sampler until it is met, and gives way to `exact`, which costs dim
// products (times `power`), where sampling would cost no less.
//
// After a pilot the number of samples that the requested error takes is predicted from the variance
// so far, a tenth more than it says; the error is looked at a few times only, so that stopping when
// it happens to look small does not spoil the interval.
SampledEstimate sampleUntil(const char* call, Sampler& sampler, const StopRule& rule,
                            ProductCounter& a, int64_t power,
                            const std::function<Estimate()>& exact);

// Throws Error (Option) where the rule allows fewer products than `whole`, which "exact" takes.
void requireExact(const char* call, const StopRule& rule, int64_t whole);

// Runs `visit` with blocks of unit vectors and their products: column first + j of A in column j.
void visitColumns(ProductCounter& a, int threads,
                  const std::function<void(int64_t first, int64_t count, Basis& columns)>& visit);

}  // namespace eigenscope
