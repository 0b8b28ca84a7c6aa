#include <doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "spectra.h"

using namespace eigenscope;
using namespace eigenscope::spectra;

TEST_CASE("Lanczos agrees with a dense solve for every end and both precisions") {
  const int64_t dim = 180;
  for (uint64_t seed = 0; seed < 4; ++seed) {
    const std::vector<double> matrix = randomSymmetric(dim, seed);
    const std::vector<double> all = denseSpectrum(matrix, dim);
    for (Precision precision : {Precision::F32, Precision::F64})
      for (Which which : {Which::LM, Which::LA, Which::SA, Which::BE})
        for (int64_t k : {1, 5, 12}) {
          const auto op = denseOperator(matrix, dim, precision);
          EigshOptions options;
          options.k = k;
          options.which = which;
          options.maxProducts = 4000;
          const EigshResult r = solve(*op, options);
          CAPTURE(nameOf(which));
          CAPTURE(k);
          CAPTURE(r.reason);
          CHECK(r.converged);
          checkPairs(*op, r, options);
          const double slack = precision == Precision::F32 ? 2e-5 : 1e-11;
          checkValues(r, expectedValues(all, k, which), slack);
        }
  }
}

TEST_CASE("a spiked 2000 x 2000 matrix: outliers of both signs over a random bulk") {
  const int64_t dim = 2000;
  const std::vector<double> spikes = {10, -8, 5, -3, 2.5};
  for (Precision precision : {Precision::F32, Precision::F64}) {
    const auto op = spikedOperator(dim, spikes, 1.0, precision);
    EigshOptions options;
    options.k = 5;
    const EigshResult r = solve(*op, options);
    CHECK(r.converged);
    CHECK(r.products < 100);
    checkPairs(*op, r, options);
    // An outlier s over a semicircle of radius 1 (variance 1/4) lies at s + 1 / (4 s).
    for (std::size_t i = 0; i < spikes.size(); ++i)
      CHECK(r.values[i] == doctest::Approx(spikes[i] + 0.25 / spikes[i]).epsilon(0.02));
  }
}
