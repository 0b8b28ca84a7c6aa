#include "spectral/sampling.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "linalg/basis.h"

namespace eigenscope {

namespace {

constexpr int64_t kBlock = 16;
constexpr int64_t kDefaultProducts = 1000;
constexpr double kMargin = 1.1;  // of predicted samples
constexpr double kCaution = 1;
constexpr double kMostGrowth = 4;  // of samples between looks

[[noreturn]] void refuse(const char* call, const std::string& message) {
  throw Error(ErrorKind::Option, std::string(call) + ": " + message);
}

// A standard error from n samples is uncertain by the factor 1 +- 1 / sqrt(2 n), more where their
// tails are long, and stopping at the first that happens to be small enough picks those that are
// too small. So a look counts only where the error is small enough with this factor to spare.
double caution(int64_t samples) { return 1 + kCaution / std::sqrt(double(samples)); }

// The stated error of plain means carries that factor too, where it decided when to stop: the mean
// of positive skewed samples and its error are small together. Leave-one-out errors come with a
// margin of their own.
Estimate widened(const Estimate& estimate, double factor) {
  Estimate wide = estimate;
  wide.standardError *= factor;
  wide.low = estimate.value - factor * (estimate.value - estimate.low);
  wide.high = estimate.value + factor * (estimate.high - estimate.value);
  return wide;
}

int64_t roundedUp(double samples) {
  return static_cast<int64_t>(std::ceil(samples / double(kBlock))) * kBlock;
}

}  // namespace

SampledEstimate sampleUntil(const char* call, Sampler& sampler, const StopRule& rule,
                            ProductCounter& a, int64_t power,
                            const std::function<Estimate()>& exact) {
  const Sampler::Shape shape = sampler.shape();
  const int64_t dim = a.op().dim(), whole = dim * power, cost = shape.cost * power;
  const bool counted = rule.products > 0;
  if (!(rule.tol >= 0) || !(rule.standardError >= 0))
    refuse(call, "tol and standardError must be at least 0");
  if (counted && (rule.tol > 0 || rule.standardError > 0))
    refuse(call,
           "products says what to spend, tol and standardError what to reach: expected one of the "
           "two; use maxProducts to limit the search for an error");
  const int64_t limit = counted                ? rule.products
                        : rule.maxProducts > 0 ? rule.maxProducts
                                               : kDefaultProducts * power;
  SampledEstimate result;
  const auto finish = [&](const Estimate& estimate, const std::string& method, int64_t samples) {
    static_cast<Estimate&>(result) = estimate;
    result.method = method;
    result.products = a.products() * power;
    result.samples = samples;
    result.scale = sampler.scale(estimate);
    return result;
  };
  const auto enumerate = [&] { return finish(exact(), "exact", 0); };
  const auto left = [&] { return limit - a.products() * power; };
  if (counted && limit >= whole) return enumerate();
  if (!counted && limit >= whole && shape.pilot * cost >= whole) return enumerate();
  if (limit < shape.least * cost)
    refuse(call, std::string(counted ? "products" : "maxProducts") + ": expected at least " +
                     std::to_string(std::min(whole, shape.least * cost)) + " for method " +
                     shape.method + " in dimension " + std::to_string(dim) + ", got " +
                     std::to_string(limit));

  int64_t most = std::min(limit / cost, dim - 1);
  bool short_of_memory = false;
  if (rule.memoryBudget > 0 && shape.vectors > 0) {
    const int64_t vector = dim * static_cast<int64_t>(bytesOf(a.op().precision()));
    const int64_t room = rule.memoryBudget / vector - 4 * kBlock;
    const int64_t fits = std::max<int64_t>(0, room) / shape.vectors;
    if (fits < shape.least)
      throw Error(ErrorKind::MemoryBudget,
                  std::string(call) + ": method " + shape.method + " in dimension " +
                      std::to_string(dim) + " needs at least " +
                      std::to_string((shape.least * shape.vectors + 4 * kBlock) * vector) +
                      " bytes, " + std::to_string(rule.memoryBudget) +
                      " are allowed; raise the limit or use method hutchinson");
    short_of_memory = fits < most;
    most = std::min(most, fits);
  }
  int64_t samples = counted ? most : std::min(most, shape.pilot);
  while (true) {
    sampler.grow(samples);
    Estimate estimate = sampler.estimate();
    const double factor = counted ? 1.0 : caution(samples);
    double cautious = estimate.standardError * factor;
    if (!shape.bends) estimate = widened(estimate, factor);
    finish(estimate, shape.method, sampler.samples());
    if (result.scale > 0 || estimate.standardError == 0)
      a.report(result.scale > 0 ? estimate.standardError / result.scale : 0.0);
    if (counted) return result;
    const double target = std::max(rule.tol * result.scale, rule.standardError);
    // Rounding is no matter of luck.
    if (sampler.exhausted()) cautious = estimate.standardError;
    if (cautious <= target) return result;
    const double asked = cautious / target;
    if (sampler.exhausted()) {
      result.converged = false;
      result.reason =
          "the requested error is below the rounding of the operator: the standard "
          "error is " +
          shortNumber(estimate.standardError) + ", " + shortNumber(target) + " was asked for" +
          (a.op().precision() == Precision::F32 ? "; use float64" : "");
      return result;
    }
    const double growth = shape.bends ? std::min(2.0, std::max(1.25, asked))
                                      : std::min(kMostGrowth, kMargin * asked * asked);
    int64_t next = roundedUp(std::max(double(samples + 1), double(samples) * growth));
    // As many products as unit vectors take, and they leave no error.
    const double foreseen = shape.bends ? double(next) : kMargin * asked * asked * double(samples);
    if ((foreseen - double(samples)) * double(cost) >= double(whole) && left() >= whole)
      return enumerate();
    next = std::min(next, most);
    if (next <= samples) {
      if (left() >= whole) return enumerate();
      result.converged = false;
      result.reason =
          (short_of_memory ? std::to_string(samples) + " samples, all that the memory limit allows,"
                           : std::to_string(limit) + " products (maxProducts)") +
          " were not enough: the standard error is " + shortNumber(estimate.standardError) + ", " +
          shortNumber(target) + " was asked for; allow more, or ask for less";
      return result;
    }
    samples = next;
  }
}

void requireExact(const char* call, const StopRule& rule, int64_t whole) {
  for (int64_t allowed : {rule.products, rule.maxProducts})
    if (allowed > 0 && allowed < whole)
      refuse(call, "method exact takes " + std::to_string(whole) +
                       " products in this dimension, got a limit of " + std::to_string(allowed));
}

namespace {

template <class T>
void setUnit(void* block, int64_t dim, int64_t column, int64_t coordinate, double value) {
  static_cast<T*>(block)[column * dim + coordinate] = static_cast<T>(value);
}

}  // namespace

void visitColumns(ProductCounter& a, int threads,
                  const std::function<void(int64_t, int64_t, Basis&)>& visit) {
  const int64_t dim = a.op().dim(), block = std::min(dim, kBlock);
  const Precision precision = a.op().precision();
  Basis units(dim, block, precision, threads, &a.task());
  Basis columns(dim, block, precision, threads, &a.task());
  std::memset(units.column(0), 0, dim * block * bytesOf(precision));
  const auto set = [&](int64_t first, int64_t count, double value) {
    for (int64_t j = 0; j < count; ++j)
      if (precision == Precision::F32)
        setUnit<float>(units.column(0), dim, j, first + j, value);
      else
        setUnit<double>(units.column(0), dim, j, first + j, value);
  };
  for (int64_t first = 0; first < dim; first += block) {
    const int64_t count = std::min(block, dim - first);
    set(first, count, 1.0);
    a.apply(units.column(0), columns.column(0), count);
    visit(first, count, columns);
    set(first, count, 0.0);
  }
}

}  // namespace eigenscope
