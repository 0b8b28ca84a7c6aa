// Trace, diagonal and norm estimators: oracles, identities and wrong uses.
#include <doctest.h>

#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "spectra.h"
#include "spectral/diagonal.h"
#include "spectral/norms.h"
#include "spectral/trace.h"

using namespace eigenscope;
using namespace eigenscope::spectra;

namespace {

constexpr TraceMethod kMethods[] = {TraceMethod::Hutchinson, TraceMethod::HutchPP,
                                    TraceMethod::XTrace, TraceMethod::XNysTrace};

TraceOptions with(TraceMethod method, int64_t products, uint64_t seed = 0) {
  TraceOptions options;
  options.method = method;
  options.stop.products = products;
  options.seed = seed;
  return options;
}

SampledEstimate traceOf(LinearOperator& op, const TraceOptions& options) {
  Task task;
  return trace(op, options, task);
}

double sumOf(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

std::vector<double> powerLaw(int64_t dim, double exponent) {
  std::vector<double> values(dim);
  for (int64_t i = 0; i < dim; ++i) values[i] = std::pow(1.0 + double(i), -exponent);
  return values;
}

}  // namespace

TEST_CASE("root mean square errors of trace estimators are those of the literature") {
  // Eigenvalues {10, -8, 5, -3, 2, 1} and a tail of 1e-3 in dimension 200: Hutchinson's error is
  // that of the Frobenius norm, the others' that of the tail.
  const int64_t dim = 200;
  std::vector<double> values = {10, -8, 5, -3, 2, 1};
  double tail = 0;
  for (int64_t i = 6; i < dim; ++i) {
    values.push_back(1e-3 * gaussianPair(5, 0, i)[0]);
    tail += values.back() * values.back();
  }
  const auto op = operatorWithSpectrum(values, Precision::F64);
  const double truth = sumOf(values);
  double squares = 0;
  for (double x : values) squares += x * x;
  for (int64_t products : {30, 60})
    for (TraceMethod method :
         {TraceMethod::Hutchinson, TraceMethod::HutchPP, TraceMethod::XTrace}) {
      double error = 0, mean = 0, stated = 0;
      const int runs = 400;
      for (int run = 0; run < runs; ++run) {
        TraceOptions options = with(method, products, run);
        options.probes = Probes::Gaussian;
        const SampledEstimate r = traceOf(*op, options);
        CHECK(r.products == products);
        error += (r.value - truth) * (r.value - truth) / runs;
        mean += (r.value - truth) / runs;
        stated += r.standardError * r.standardError / runs;
      }
      const double rmse = std::sqrt(error);
      CAPTURE(nameOf(method));
      CAPTURE(products);
      CAPTURE(rmse);
      CHECK(std::abs(mean) < 4 * rmse / std::sqrt(double(runs)));
      CHECK(std::sqrt(stated) / rmse > 0.85);
      CHECK(std::sqrt(stated) / rmse < 1.2);
      const double hutchinson = std::sqrt(2 * squares / double(products));
      if (method == TraceMethod::Hutchinson) {
        CHECK(rmse > 0.88 * hutchinson);
        CHECK(rmse < 1.12 * hutchinson);
      } else {
        const double rest =
            method == TraceMethod::HutchPP ? double(products) / 3 : double(products) / 2;
        CHECK(rmse < 1.6 * std::sqrt(2 * tail / rest));
        CHECK(rmse > 0.6 * std::sqrt(2 * tail / rest));
      }
    }
}

TEST_CASE("estimators are exact at low rank, and say so up to rounding") {
  const int64_t dim = 300;
  std::vector<double> values(dim, 0.0), indefinite;
  for (int64_t i = 0; i < 5; ++i) values[i] = std::pow(10.0, double(-i));
  indefinite = values;
  indefinite[1] = -0.3;
  for (Precision precision : {Precision::F32, Precision::F64})
    for (TraceMethod method : {TraceMethod::HutchPP, TraceMethod::XTrace, TraceMethod::XNysTrace})
      for (bool negative : {false, true}) {
        if (negative && method == TraceMethod::XNysTrace) continue;
        const std::vector<double>& spectrum = negative ? indefinite : values;
        const auto op = operatorWithSpectrum(spectrum, precision);
        const double truth = sumOf(spectrum), small = precision == Precision::F32 ? 3e-5 : 3e-13;
        int held = 0;
        for (uint64_t seed = 0; seed < 50; ++seed) {
          const SampledEstimate r = traceOf(*op, with(method, 60, seed));
          CAPTURE(nameOf(method));
          CAPTURE(seed);
          CHECK(std::abs(r.value - truth) < small);
          CHECK(r.standardError < 4 * small);
          held += r.low <= truth && truth <= r.high;
        }
        CAPTURE(nameOf(method));
        CAPTURE(static_cast<int>(precision));
        CHECK(held >= 46);
      }
}

TEST_CASE("as many products as the dimension give the exact trace") {
  const std::vector<double> values = powerLaw(40, 0.5);
  const auto op = operatorWithSpectrum(values, Precision::F64);
  for (TraceMethod method : kMethods) {
    const SampledEstimate r = traceOf(*op, with(method, 40));
    CHECK(r.method == "exact");
    CHECK(r.products == 40);
    CHECK(r.samples == 0);
    CHECK(r.value == doctest::Approx(sumOf(values)).epsilon(1e-14));
    CHECK(r.standardError < 1e-13);
    CHECK(r.low <= sumOf(values));
    CHECK(r.high >= sumOf(values));
    // A requested error that would take more than that ends there too.
    TraceOptions options;
    options.method = method;
    options.stop.tol = 1e-9;
    CHECK(traceOf(*op, options).method == "exact");
  }
}

TEST_CASE("dimensions 1 and 2, and the zero operator") {
  for (TraceMethod method : kMethods) {
    TraceOptions options;
    options.method = method;
    for (int64_t dim : {1, 2}) {
      const std::vector<double> values = dim == 1 ? std::vector{3.0} : std::vector{3.0, 0.5};
      const auto op = operatorWithSpectrum(values, Precision::F64);
      const SampledEstimate r = traceOf(*op, options);
      CHECK(r.converged);
      CHECK(r.value == doctest::Approx(sumOf(values)).epsilon(1e-14));
      Task task;
      const DiagonalResult d = diagonal(*op, {}, task);
      CHECK(sumOf(d.values) == doctest::Approx(sumOf(values)).epsilon(1e-14));
      CHECK(evenNorm(*op, {}, task).value ==
            doctest::Approx(std::sqrt(9 + (dim == 2 ? 0.25 : 0.0))).epsilon(1e-13));
    }
    for (Precision precision : {Precision::F32, Precision::F64}) {
      const auto op = diagonalOperator(std::vector<double>(200, 0.0), precision);
      const SampledEstimate r = traceOf(*op, options);
      CAPTURE(nameOf(method));
      CHECK(r.converged);
      CHECK(r.value == 0);
      CHECK(r.standardError == 0);
      CHECK((r.low == 0 && r.high == 0));
    }
  }
  Task task;
  const auto zero = diagonalOperator(std::vector<double>(200, 0.0), Precision::F32);
  for (DiagonalMethod method : {DiagonalMethod::Hutchinson, DiagonalMethod::XDiag}) {
    DiagonalOptions options;
    options.method = method;
    const DiagonalResult d = diagonal(*zero, options, task);
    CHECK(d.whole.value == 0);
    CHECK(d.whole.standardError == 0);
  }
  for (int64_t power : {1, 2}) {
    NormOptions options;
    options.power = power;
    const SampledEstimate norm = evenNorm(*zero, options, task);
    CHECK(norm.value == 0);
    CHECK(norm.converged);
  }
}

TEST_CASE("estimates scale with the operator") {
  for (Precision precision : {Precision::F32, Precision::F64})
    for (TraceMethod method : kMethods) {
      const auto op = operatorWithSpectrum(powerLaw(150, 1), precision);
      TraceOptions options;
      options.method = method;
      options.stop.tol = 0.05;
      const SampledEstimate one = traceOf(*op, options);
      for (double factor : {1e-12, 1e12}) {
        const SampledEstimate r = traceOf(*scaleOperator(op, factor), options);
        const double slack = precision == Precision::F32 ? 1e-3 : 1e-9;
        CAPTURE(nameOf(method));
        CHECK(r.value / factor == doctest::Approx(one.value).epsilon(slack));
        CHECK(r.standardError / factor == doctest::Approx(one.standardError).epsilon(10 * slack));
        CHECK(r.products == one.products);
      }
    }
  Task task;
  const auto op = operatorWithSpectrum(powerLaw(150, 1), Precision::F32);
  for (int64_t power : {1, 3}) {
    NormOptions options;
    options.power = power;
    options.stop.products = 90;
    const SampledEstimate one = evenNorm(*op, options, task);
    for (double factor : {1e-12, 1e12})
      CHECK(evenNorm(*scaleOperator(op, factor), options, task).value / factor ==
            doctest::Approx(one.value).epsilon(1e-3));
  }
}

TEST_CASE("results depend on the seed alone, whatever threads, and hardly on the block size") {
  const int64_t dim = 9001;
  std::vector<double> values(dim);
  for (int64_t i = 0; i < dim; ++i) values[i] = 1.0 / (1.0 + double(i));
  SpectrumOperator op(values, Precision::F32);
  Task task;
  for (TraceMethod method : kMethods) {
    TraceOptions options = with(method, 60);
    options.probes = Probes::Gaussian;  // signs meet a diagonal matrix without error
    const SampledEstimate first = traceOf(op, options);
    for (int threads : {2, 3}) {
      options.threads = threads;
      const SampledEstimate again = traceOf(op, options);
      CHECK(again.value == first.value);
      CHECK(again.standardError == first.standardError);
    }
    for (int64_t block : {1, 7}) {
      options.blockSize = block;
      const SampledEstimate other = traceOf(op, options);
      CAPTURE(nameOf(method));
      CHECK(std::abs(other.value - first.value) < 1e-5 * first.value);
      CHECK(other.standardError == doctest::Approx(first.standardError).epsilon(1e-2));
    }
    options.seed = 1;
    CHECK(traceOf(op, options).value != first.value);
  }
  DiagonalOptions options;
  options.stop.products = 40;
  const DiagonalResult first = diagonal(op, options, task);
  options.threads = 3;
  const DiagonalResult again = diagonal(op, options, task);
  CHECK(again.values == first.values);
  CHECK(again.standardErrors == first.standardErrors);
}

TEST_CASE("numbers belong to parameters: permuted and restricted operators see the same") {
  const int64_t dim = 120;
  const std::vector<double> matrix = matrixWithSpectrum(powerLaw(dim, 0.7), 3);
  const auto op = denseOperator(matrix, dim, Precision::F64);
  std::vector<int64_t> permutation(dim);
  for (int64_t i = 0; i < dim; ++i) permutation[i] = (i * 49 + 13) % dim;
  const auto permuted = restrictOperator(op, permutation);
  Task task;
  for (TraceMethod method : kMethods) {
    const SampledEstimate a = traceOf(*op, with(method, 60));
    const SampledEstimate b = traceOf(*permuted, with(method, 60));
    CAPTURE(nameOf(method));
    CHECK(a.value == doctest::Approx(b.value).epsilon(1e-11));
    CHECK(a.standardError == doctest::Approx(b.standardError).epsilon(1e-6));
  }
  DiagonalOptions options;
  options.stop.products = 60;
  for (DiagonalMethod method : {DiagonalMethod::Hutchinson, DiagonalMethod::XDiag}) {
    options.method = method;
    const DiagonalResult a = diagonal(*op, options, task), b = diagonal(*permuted, options, task);
    for (int64_t i = 0; i < dim; ++i)
      CHECK(b.values[i] == doctest::Approx(a.values[permutation[i]]).epsilon(1e-9));
  }
  // The probe of a restriction is the restriction of the probe: of a block-diagonal operator, the
  // two blocks' estimates add up to that of the whole.
  std::vector<double> blocks(dim * dim, 0.0);
  std::vector<int64_t> low, high;
  for (int64_t i = 0; i < dim; ++i) {
    (i < dim / 2 ? low : high).push_back(i);
    for (int64_t j = 0; j < dim; ++j)
      if ((i < dim / 2) == (j < dim / 2)) blocks[j * dim + i] = matrix[j * dim + i];
  }
  const auto whole = denseOperator(blocks, dim, Precision::F64);
  const TraceOptions few = with(TraceMethod::Hutchinson, 20);
  CHECK(traceOf(*restrictOperator(whole, low), few).value +
            traceOf(*restrictOperator(whole, high), few).value ==
        doctest::Approx(traceOf(*whole, few).value).epsilon(1e-12));
}

TEST_CASE("known eigenpairs are taken out exactly") {
  const int64_t dim = 200;
  std::vector<double> values = powerLaw(dim, 0.5);
  values[0] = 100, values[1] = -60;
  for (Precision precision : {Precision::F32, Precision::F64}) {
    const auto op = operatorWithSpectrum(values, precision);
    EigshOptions top;
    top.k = 10;
    const EigshResult pairs = solve(*op, top);
    TraceOptions options = with(TraceMethod::Hutchinson, 40);
    const SampledEstimate plain = traceOf(*op, options);
    options.values = pairs.values;
    options.vectors = pairs.vectors.data();
    for (TraceMethod method : kMethods) {
      if (method == TraceMethod::XNysTrace) continue;
      options.method = method;
      const SampledEstimate deflated = traceOf(*op, options);
      CAPTURE(nameOf(method));
      CHECK(deflated.standardError < plain.standardError / 10);
      CHECK(std::abs(deflated.value - sumOf(values)) < 4 * deflated.standardError);
      CHECK(deflated.products <= 40);
    }
    // Nothing is left below pairs that are all there is.
    std::vector<double> low(dim, 0.0);
    low[0] = 2, low[1] = -1;
    const auto small = operatorWithSpectrum(low, precision);
    top.k = 2;
    const EigshResult all = solve(*small, top);
    options.method = TraceMethod::Hutchinson;
    options.values = all.values;
    options.vectors = all.vectors.data();
    const SampledEstimate r = traceOf(*small, options);
    CHECK(std::abs(r.value - 1) < (precision == Precision::F32 ? 1e-5 : 1e-12));
    // Twice the same vector.
    std::vector<std::byte> twice(all.vectors.begin(), all.vectors.begin() + all.vectors.size() / 2);
    twice.insert(twice.end(), twice.begin(), twice.end());
    std::vector<std::byte> same(twice.begin(), twice.end());
    options.vectors = same.data();
    CHECK(mentions(messageOf(ErrorKind::Option, [&] { traceOf(*small, options); }),
                   "linearly dependent"));
  }
}

TEST_CASE("XNysTrace refuses an indefinite operator") {
  for (Precision precision : {Precision::F32, Precision::F64}) {
    std::vector<double> values = powerLaw(200, 1);
    for (std::size_t i = 1; i < values.size(); i += 3) values[i] = -values[i];
    const auto op = operatorWithSpectrum(values, precision);
    for (uint64_t seed = 0; seed < 20; ++seed) {
      const std::string message = messageOf(
          ErrorKind::Option, [&] { traceOf(*op, with(TraceMethod::XNysTrace, 40, seed)); });
      CHECK(mentions(message, "positive semi-definite operator"));
      CHECK(mentions(message, "use method xtrace"));
    }
    // Rank deficient and semi-definite is no evidence.
    std::vector<double> low(200, 0.0);
    for (int64_t i = 0; i < 12; ++i) low[i] = std::pow(4.0, double(-i));
    const auto fine = operatorWithSpectrum(low, precision);
    for (uint64_t seed = 0; seed < 20; ++seed)
      CHECK(traceOf(*fine, with(TraceMethod::XNysTrace, 60, seed)).value ==
            doctest::Approx(sumOf(low)).epsilon(precision == Precision::F32 ? 1e-4 : 1e-10));
  }
}

TEST_CASE("a trace near zero is measured against the Frobenius norm") {
  std::vector<double> values;
  for (int64_t i = 1; i <= 100; ++i)
    for (double sign : {1.0, -1.0}) values.push_back(sign / double(i));
  const auto op = operatorWithSpectrum(values, Precision::F64);
  double frobenius = 0;
  for (double x : values) frobenius = std::hypot(frobenius, x);
  TraceOptions options;
  options.stop.tol = 0.1;
  const SampledEstimate r = traceOf(*op, options);
  CHECK(r.converged);
  CHECK(r.scale == doctest::Approx(frobenius).epsilon(0.3));
  CHECK(r.standardError <= 0.1 * r.scale);
  CHECK(std::abs(r.value) < 5 * r.standardError);
}

TEST_CASE("stop rules: what is asked for is reached, or why it is not is said") {
  const auto op = operatorWithSpectrum(powerLaw(1200, 0.5), Precision::F64);
  for (TraceMethod method : kMethods) {
    TraceOptions options;
    options.method = method;
    options.stop.standardError = 2;
    options.stop.maxProducts = 900;
    const SampledEstimate r = traceOf(*op, options);
    CAPTURE(nameOf(method));
    CAPTURE(r.reason);
    CHECK(r.converged);
    CHECK(r.reason.empty());
    CHECK(r.standardError <= 2);
    CHECK(r.products < 500);
    options.stop = {.tol = 1e-6, .maxProducts = 100};
    const SampledEstimate poor = traceOf(*op, options);
    CHECK_FALSE(poor.converged);
    CHECK(poor.products <= 100);
    CHECK(mentions(poor.reason, "100 products (maxProducts) were not enough"));
    CHECK(poor.standardError > 0);
  }
  std::vector<double> low(1200, 0.0);
  low[3] = 1;
  TraceOptions options;
  options.stop.tol = 1e-18;
  const SampledEstimate r = traceOf(*operatorWithSpectrum(low, Precision::F64), options);
  CHECK_FALSE(r.converged);
  CHECK(mentions(r.reason, "below the rounding of the operator"));
  options.stop = {.tol = 1e-4, .memoryBudget = 1200 * 8 * 100};
  const SampledEstimate tight = traceOf(*op, options);
  CHECK_FALSE(tight.converged);
  CHECK(mentions(tight.reason, "memory limit"));
  options.stop.memoryBudget = 1200 * 8 * 10;
  CHECK(mentions(messageOf(ErrorKind::MemoryBudget, [&] { traceOf(*op, options); }),
                 "use method hutchinson"));
}

TEST_CASE("wrong uses") {
  const auto op = operatorWithSpectrum(powerLaw(50, 1), Precision::F64);
  const auto refusal = [&](TraceOptions options) {
    return messageOf(ErrorKind::Option, [&] { traceOf(*op, options); });
  };
  CHECK(mentions(refusal(with(TraceMethod::XTrace, 3)), "products: expected at least 4"));
  CHECK(mentions(refusal(with(TraceMethod::HutchPP, 5)), "expected at least 6 for method hutch++"));
  TraceOptions both = with(TraceMethod::XTrace, 30);
  both.stop.tol = 0.1;
  CHECK(mentions(refusal(both), "expected one of the two"));
  CHECK(mentions(refusal(with(TraceMethod::Exact, 49)), "method exact takes 50 products"));
  SpectrumOperator broken(powerLaw(300, 1), Precision::F32);
  broken.spoil = [](int64_t product, int64_t i, double y) {
    return product == 9 && i == 7 ? std::nan("") : y;
  };
  for (TraceMethod method : kMethods) {
    broken.calls = 0;
    CHECK(mentions(messageOf(ErrorKind::DataMismatch, [&] { traceOf(broken, with(method, 60)); }),
                   "NaN or infinity in product 9"));
  }
  Task task;
  task.cancelled = true;
  for (TraceMethod method : kMethods) {
    ErrorKind kind = ErrorKind::Internal;
    try {
      trace(*op, with(method, 30), task);
    } catch (const Error& error) {
      kind = error.kind;
    }
    CHECK(kind == ErrorKind::Abort);
  }
  std::vector<double> lopsided(100 * 100);
  fillGaussian(lopsided.data(), 100, 100, 5, 0);
  const auto asymmetric = denseOperator(lopsided, 100, Precision::F64);
  const SampledEstimate warned = traceOf(*asymmetric, with(TraceMethod::XTrace, 60));
  REQUIRE(warned.warnings.size() == 1);
  CHECK(mentions(warned.warnings[0], "does not look symmetric"));
}

TEST_CASE("diagonals") {
  const int64_t dim = 150;
  std::vector<double> low(dim, 0.0);
  low[0] = 3, low[1] = -2, low[2] = 0.5;
  for (Precision precision : {Precision::F32, Precision::F64}) {
    const std::vector<double> matrix = matrixWithSpectrum(low, 9);
    const auto op = denseOperator(matrix, dim, precision);
    Task task;
    // On the range of a low-rank operator XDiag is exact.
    DiagonalOptions options;
    options.stop.products = 60;
    const DiagonalResult r = diagonal(*op, options, task);
    const double small = precision == Precision::F32 ? 1e-5 : 1e-13;
    for (int64_t i = 0; i < dim; ++i) CHECK(std::abs(r.values[i] - matrix[i * dim + i]) < small);
    CHECK(r.whole.standardError < 100 * small);
    options.method = DiagonalMethod::Exact;
    options.stop = {};
    const DiagonalResult exact = diagonal(*op, options, task);
    CHECK(exact.whole.method == "exact");
    CHECK(exact.whole.products == dim);
    for (int64_t i = 0; i < dim; ++i)
      CHECK(exact.values[i] == doctest::Approx(matrix[i * dim + i]).epsilon(1e-6));
  }
  // Signs meet a diagonal matrix without error.
  const auto plain = diagonalOperator(powerLaw(dim, 1), Precision::F64);
  DiagonalOptions options;
  options.method = DiagonalMethod::Hutchinson;
  options.stop.products = 4;
  Task task;
  const DiagonalResult r = diagonal(*plain, options, task);
  for (int64_t i = 0; i < dim; ++i) CHECK(r.values[i] == doctest::Approx(1.0 / (1.0 + double(i))));
  // A requested error is reached.
  const std::vector<double> matrix = matrixWithSpectrum(powerLaw(900, 2), 9);
  const auto op = denseOperator(matrix, 900, Precision::F64);
  for (DiagonalMethod method : {DiagonalMethod::Hutchinson, DiagonalMethod::XDiag}) {
    DiagonalOptions asked;
    asked.method = method;
    asked.stop.tol = method == DiagonalMethod::XDiag ? 0.02 : 2.0;
    const DiagonalResult reached = diagonal(*op, asked, task);
    CAPTURE(nameOf(method));
    CHECK(reached.whole.converged);
    CHECK(reached.whole.method == nameOf(method));
    double error = 0;
    for (int64_t i = 0; i < 900; ++i)
      error = std::hypot(error, reached.values[i] - matrix[i * 900 + i]);
    CHECK(error < 1.5 * reached.whole.standardError);
    CHECK(error > 0.5 * reached.whole.standardError);
  }
}

TEST_CASE("norms") {
  std::vector<double> values = powerLaw(400, 0.8);
  for (std::size_t i = 0; i < values.size(); i += 2) values[i] = -values[i];
  Task task;
  for (Precision precision : {Precision::F32, Precision::F64}) {
    const auto op = operatorWithSpectrum(values, precision);
    for (int64_t power : {1, 2, 3})
      for (NormMethod method : {NormMethod::Hutchinson, NormMethod::XTrace, NormMethod::Exact}) {
        double sum = 0;
        for (double x : values) sum += std::pow(std::abs(x), 2.0 * double(power));
        const double truth = std::pow(sum, 0.5 / double(power));
        NormOptions options;
        options.method = method;
        options.power = power;
        if (method != NormMethod::Exact) options.stop.products = 120 * power;
        const SampledEstimate r = evenNorm(*op, options, task);
        CAPTURE(power);
        CAPTURE(static_cast<int>(method));
        CHECK(r.value == doctest::Approx(truth).epsilon(method == NormMethod::Exact    ? 1e-5
                                                        : method == NormMethod::XTrace ? 0.03
                                                                                       : 0.3));
        CHECK(r.low <= truth);
        CHECK(r.high >= truth);
        CHECK(r.products <= (method == NormMethod::Exact ? 400 * power + 4 : 120 * power + 4));
      }
  }
}
