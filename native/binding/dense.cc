#include "binding/dense.h"

#include <algorithm>

#include "binding/calls.h"
#include "linalg/blas.h"
#include "linalg/lapack.h"

namespace eigenscope::binding {

namespace {

// Matrices of JavaScript are row-major, and so the transposed ones of LAPACK.
struct DenseInputs {
  int64_t rows, columns;
  View matrix;
  // product: columns x otherColumns, or otherColumns x columns where it is transposed.
  View other;
  int64_t otherColumns;
  bool transposed, vectors;

  std::vector<double> copy() const {
    const auto numbers = matrix.as<const double>();
    return {numbers.begin(), numbers.end()};
  }
};

// Largest first, eigenvectors as rows.
Fields symmetric(const DenseInputs& given) {
  const int64_t n = given.rows;
  std::vector<double> a = given.copy();
  std::vector<double> values = given.vectors ? symmetricEigen(n, a.data(), std::max<int64_t>(1, n))
                                             : symmetricEigenvalues(n, a.data(), n);
  std::reverse(values.begin(), values.end());
  if (!given.vectors) a.clear();
  for (int64_t i = 0; given.vectors && i < n / 2; ++i)
    std::swap_ranges(a.begin() + i * n, a.begin() + (i + 1) * n, a.begin() + (n - 1 - i) * n);
  return Fields{{"values", values}, {"vectors", std::move(a)}};
}

// Singular vectors as rows.
Fields singular(const DenseInputs& given) {
  std::vector<double> a = given.copy();
  if (!given.vectors)
    return Fields{{"values", singularValues(given.columns, given.rows, a.data(),
                                            std::max<int64_t>(1, given.columns))}};
  SmallSvd found = svd(given.columns, given.rows, a.data(), std::max<int64_t>(1, given.columns));
  const auto thin = static_cast<int64_t>(found.values.size());
  std::vector<double> left(thin * given.rows);
  for (int64_t i = 0; i < given.rows; ++i)
    for (int64_t k = 0; k < thin; ++k) left[k * given.rows + i] = found.vt[i * thin + k];
  return Fields{{"values", std::move(found.values)},
                {"left", std::move(left)},
                {"right", std::move(found.u)}};
}

Fields product(const DenseInputs& given) {
  const int64_t m = given.rows, n = given.otherColumns, k = given.columns;
  std::vector<double> out(m * n);
  if (m > 0 && n > 0 && k > 0)
    gemm(given.transposed ? 'T' : 'N', 'N', n, m, k, 1.0, given.other.as<const double>().data(),
         given.transposed ? k : n, given.matrix.as<const double>().data(), k, 0.0, out.data(), n);
  return Fields{{"values", std::move(out)}};
}

struct DenseRow {
  const char* name;
  Fields (*compute)(const DenseInputs& given);
};
constexpr DenseRow kDense[] = {
    {"symmetric", symmetric}, {"singular", singular}, {"product", product}};

View doublesOf(const Options& options, const char* name, int64_t length, Call& call) {
  const Napi::Value value = options.get(name);
  const View view = viewOf(value, name, napi_float64_array);
  if (static_cast<int64_t>(view.length) != length)
    options.fail(name, std::to_string(length) + " numbers");
  call.holds.push_back(value);
  return view;
}

Napi::Value denseAlgebra(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const std::string name = stringOf(info[0], "what");
    const auto* row =
        std::find_if(std::begin(kDense), std::end(kDense),
                     [&](const DenseRow& candidate) { return name == candidate.name; });
    if (row == std::end(kDense))
      throw Error(ErrorKind::Internal, "there is no dense computation called " + name);
    const Options options(info[1], "dense");
    Call call;
    DenseInputs given{};
    given.rows = options.integer("rows", 0);
    given.columns = options.integer("columns", 0);
    given.vectors = options.boolean("vectors", false);
    given.transposed = options.boolean("transposed", false);
    given.matrix = doublesOf(options, "matrix", given.rows * given.columns, call);
    if (options.has("other")) {
      given.otherColumns = options.integer("otherColumns", 0);
      given.other = doublesOf(options, "other", given.columns * given.otherColumns, call);
    }
    auto result = std::make_shared<Fields>();
    call.work = [row, given, result](Task& task) {
      task.check();
      *result = row->compute(given);
    };
    call.result = [result](Napi::Env env) -> Napi::Value { return objectOf(env, *result); };
    return start(info.Env(), std::move(call), info[2]);
  });
}

}  // namespace

void exportDense(Napi::Env env, Napi::Object exports) {
  exports.Set("denseAlgebra", Napi::Function::New(env, denseAlgebra, "denseAlgebra"));
}

}  // namespace eigenscope::binding
