// Every convolution engine against a loop over every index, in f64.
#include <doctest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "run/kernels/conv.h"
#include "run/onednn.h"

extern "C" void openblas_set_num_threads(int);

namespace {

using namespace eigenscope;

std::vector<double> draw(int64_t n, std::mt19937& generator) {
  std::uniform_real_distribution<double> uniform(-1, 1);
  std::vector<double> values(static_cast<size_t>(n));
  for (double& value : values) value = static_cast<float>(uniform(generator));
  return values;
}

int64_t sizeX(const ConvShape& s) { return s.B * s.H * s.W * s.C; }
int64_t sizeY(const ConvShape& s) { return s.B * s.OH * s.OW * s.O; }
int64_t sizeW(const ConvShape& s) {
  return s.O * s.window.kernel[0] * s.window.kernel[1] * (s.C / s.window.groups);
}

// The trilinear sum over y, x and w that all three forms come from.
void naive(ConvForm form, const ConvShape& s, const double* a, const double* b, double* out) {
  const Window& v = s.window;
  const int64_t cg = s.C / v.groups, og = s.O / v.groups;
  for (int64_t n = 0; n < s.B; ++n)
    for (int64_t oh = 0; oh < s.OH; ++oh)
      for (int64_t ow = 0; ow < s.OW; ++ow)
        for (int64_t o = 0; o < s.O; ++o)
          for (int64_t i = 0; i < v.kernel[0]; ++i)
            for (int64_t j = 0; j < v.kernel[1]; ++j) {
              const int64_t h = oh * v.stride[0] - v.pad[0] + i * v.dilation[0];
              const int64_t w = ow * v.stride[1] - v.pad[1] + j * v.dilation[1];
              if (h < 0 || h >= s.H || w < 0 || w >= s.W) continue;
              for (int64_t c = 0; c < cg; ++c) {
                const int64_t xi = ((n * s.H + h) * s.W + w) * s.C + o / og * cg + c;
                const int64_t yi = ((n * s.OH + oh) * s.OW + ow) * s.O + o;
                const int64_t wi = ((o * v.kernel[0] + i) * v.kernel[1] + j) * cg + c;
                if (form == ConvForm::Forward) out[yi] += a[xi] * b[wi];
                if (form == ConvForm::Input) out[xi] += a[yi] * b[wi];
                if (form == ConvForm::Weight) out[wi] += a[xi] * b[yi];
              }
            }
}

template <class T>
void check(ConvForm form, const ConvShape& s, Lead lead, int64_t k, bool accumulate,
           ConvEngine engine, std::mt19937& generator) {
  const int64_t na = form == ConvForm::Input ? sizeY(s) : sizeX(s);
  const int64_t nb = form == ConvForm::Weight ? sizeY(s) : sizeW(s);
  const int64_t no = form == ConvForm::Forward ? sizeY(s)
                     : form == ConvForm::Input ? sizeX(s)
                                               : sizeW(s);
  const int64_t ka = lead == Lead::First ? k : 1, kb = lead == Lead::Second ? k : 1;
  const int64_t ko = ka * kb;
  const auto a = draw(ka * na, generator), b = draw(kb * nb, generator);
  const auto start = draw(ko * no, generator);
  std::vector<double> expected =
      accumulate ? start : std::vector<double>(static_cast<size_t>(ko * no));
  for (int64_t i = 0; i < ko; ++i)
    naive(form, s, a.data() + (ka > 1 ? i * na : 0), b.data() + (kb > 1 ? i * nb : 0),
          expected.data() + i * no);

  const ConvPlan plan = planConv(form, s, lead, k, precisionOf<T>(), accumulate, engine);
  CAPTURE(plan.name());
  const std::vector<T> at(a.begin(), a.end()), bt(b.begin(), b.end());
  std::vector<T> out(static_cast<size_t>(ko * no), T(NAN));
  if (accumulate) std::copy(start.begin(), start.end(), out.begin());
  std::vector<char> scratch(static_cast<size_t>(scratchBytes(plan)) + 64, char(-1));
  T* aligned = reinterpret_cast<T*>((reinterpret_cast<uintptr_t>(scratch.data()) + 63) / 64 * 64);
  runConv<T>(plan, at.data(), bt.data(), out.data(), accumulate, aligned);
  double worst = 0, scale = 1;
  for (size_t i = 0; i < out.size(); ++i) {
    const double error = std::abs(static_cast<double>(out[i]) - expected[i]);
    worst = std::isnan(error) ? 1e30 : std::max(worst, error);
    scale = std::max(scale, std::abs(expected[i]));
  }
  CHECK(worst <= scale * (sizeof(T) == 4 ? 3e-6 : 1e-13));
}

ConvShape sized(int64_t B, int64_t H, int64_t W, int64_t C, int64_t O, Window w, int64_t after) {
  const auto out = [&](int64_t size, int axis) {
    const int64_t reach = (w.kernel[axis] - 1) * w.dilation[axis] + 1;
    return (size + w.pad[axis] + (axis == 0 && size == 1 ? 0 : after) - reach) / w.stride[axis] + 1;
  };
  return {B, H, W, C, out(H, 0), out(W, 1), O, w};
}

void everyWay(const ConvShape& s, std::mt19937& generator) {
  CAPTURE(s.B);
  CAPTURE(s.H);
  CAPTURE(s.W);
  CAPTURE(s.C);
  CAPTURE(s.OH);
  CAPTURE(s.OW);
  CAPTURE(s.O);
  CAPTURE(s.window.groups);
  for (ConvForm form : {ConvForm::Forward, ConvForm::Input, ConvForm::Weight})
    for (Lead lead : {Lead::None, Lead::First, Lead::Second}) {
      const bool accumulate = generator() % 2;
      CAPTURE(static_cast<int>(form));
      CAPTURE(static_cast<int>(lead));
      CAPTURE(accumulate);
      check<double>(form, s, lead, 2, accumulate, ConvEngine::Auto, generator);
      check<float>(form, s, lead, 2, accumulate, ConvEngine::Auto, generator);
      check<float>(form, s, lead, 2, accumulate, ConvEngine::Im2col, generator);
    }
}

TEST_CASE("convolutions of the reference networks") {
  openblas_set_num_threads(1);
  std::mt19937 generator(1);
  for (const ConvShape& s : {sized(2, 28, 28, 1, 6, {{5, 5}, {1, 1}, {1, 1}, {2, 2}, 1}, 2),
                             sized(2, 14, 14, 6, 16, {{5, 5}, {1, 1}, {1, 1}, {0, 0}, 1}, 0),
                             sized(2, 16, 16, 3, 16, {{3, 3}, {1, 1}, {1, 1}, {1, 1}, 1}, 1),
                             sized(2, 16, 16, 16, 32, {{3, 3}, {2, 2}, {1, 1}, {1, 1}, 1}, 1),
                             sized(2, 8, 8, 16, 32, {{1, 1}, {2, 2}, {1, 1}, {0, 0}, 1}, 0),
                             sized(2, 8, 8, 32, 16, {{1, 1}, {1, 1}, {1, 1}, {0, 0}, 1}, 0),
                             sized(2, 8, 8, 32, 32, {{3, 3}, {1, 1}, {1, 1}, {1, 1}, 32}, 1)})
    everyWay(s, generator);
}

TEST_CASE("random kernels, strides, dilations, paddings and groups, in one and two dimensions") {
  openblas_set_num_threads(1);
  std::mt19937 generator(2);
  const auto among = [&](int64_t low, int64_t high) {
    return low + static_cast<int64_t>(generator() % static_cast<uint64_t>(high - low + 1));
  };
  int done = 0;
  while (done < 120) {
    const bool flat = generator() % 4 == 0;
    Window w;
    for (int axis = flat ? 1 : 0; axis < 2; ++axis) {
      w.kernel[axis] = among(1, 5);
      w.stride[axis] = among(1, 3);
      w.dilation[axis] = among(1, 2);
      w.pad[axis] = among(0, 3);
    }
    const int64_t cg = among(1, 5), og = among(1, 5);
    w.groups = generator() % 2 ? 1 : among(2, 9);
    const bool depthwise = generator() % 4 == 0;
    if (depthwise) w.groups = among(2, 20);
    const ConvShape s =
        sized(among(1, 3), flat ? 1 : among(1, 12), among(1, 12), (depthwise ? 1 : cg) * w.groups,
              (depthwise ? 1 : og) * w.groups, w, among(0, 3));
    if (s.OH < 1 || s.OW < 1) continue;
    everyWay(s, generator);
    ++done;
  }
}

TEST_CASE("sizes that do not fit are refused") {
  ConvShape s = sized(2, 8, 8, 6, 6, {{3, 3}, {1, 1}, {1, 1}, {1, 1}, 4}, 1);
  CHECK_THROWS_AS(planConv(ConvForm::Forward, s, Lead::None, 1, Precision::F64, false), Error);
  s.window.groups = 1;
  s.window.stride[0] = 0;
  CHECK_THROWS_AS(planConv(ConvForm::Forward, s, Lead::None, 1, Precision::F64, false), Error);
  s.window.stride[0] = 1;
  CHECK_THROWS_AS(
      planConv(ConvForm::Forward, s, Lead::None, 1, Precision::F64, false, ConvEngine::OneDnn),
      Error);
}

TEST_CASE("threads that plan and run at once") {
  openblas_set_num_threads(1);
  std::vector<std::thread> threads;
  std::vector<int> failures(4);
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([t, &failures] {
      std::mt19937 generator(static_cast<uint32_t>(t));
      for (int64_t c = 8; c < 14; ++c) {
        const ConvShape s = sized(2, 6, 7, c, 9, {{3, 3}, {1, 1}, {1, 1}, {1, 1}, 1}, 1);
        const auto drawn = draw(sizeX(s) + sizeW(s), generator);
        const std::vector<float> values(drawn.begin(), drawn.end());
        std::vector<float> out[2];
        for (ConvEngine engine : {ConvEngine::Auto, ConvEngine::Im2col}) {
          const ConvPlan plan =
              planConv(ConvForm::Forward, s, Lead::None, 1, Precision::F32, false, engine);
          std::vector<float> scratch(static_cast<size_t>(scratchBytes(plan)) / 4 + 32);
          float* aligned = reinterpret_cast<float*>(
              (reinterpret_cast<uintptr_t>(scratch.data()) + 63) / 64 * 64);
          auto& y = out[engine == ConvEngine::Auto ? 0 : 1];
          y.resize(static_cast<size_t>(sizeY(s)));
          runConv<float>(plan, values.data(), values.data() + sizeX(s), y.data(), false, aligned);
        }
        for (size_t i = 0; i < out[0].size(); ++i)
          failures[t] += !(std::abs(out[0][i] - out[1][i]) < 1e-4f);
      }
    });
  for (auto& thread : threads) thread.join();
  CHECK(failures == std::vector<int>(4));
}

TEST_CASE("oneDNN says what it is or why it is not used") {
  CHECK(onednn::available() == onednn::refusal().empty());
  if (onednn::available()) CHECK(onednn::version().substr(0, 2) == "2.");
  const ConvShape s = sized(2, 8, 8, 16, 16, {{3, 3}, {1, 1}, {1, 1}, {1, 1}, 1}, 1);
  const auto plan = planConv(ConvForm::Forward, s, Lead::None, 1, Precision::F32, false);
  CHECK(std::string(plan.name()) == (onednn::available() ? "oneDNN" : "im2col"));
  const auto exact = planConv(ConvForm::Forward, s, Lead::None, 1, Precision::F64, false);
  CHECK(std::string(exact.name()) == "im2col");
}

TEST_CASE("threads that run one plan get the same bits") {
  openblas_set_num_threads(1);
  std::mt19937 generator(3);
  const ConvShape s = sized(4, 16, 16, 16, 16, {{3, 3}, {1, 1}, {1, 1}, {1, 1}, 1}, 1);
  const auto drawn = draw(sizeX(s) + sizeW(s), generator);
  const std::vector<float> values(drawn.begin(), drawn.end());
  const ConvPlan plan = planConv(ConvForm::Forward, s, Lead::None, 1, Precision::F32, false);
  std::vector<std::vector<float>> results(4, std::vector<float>(static_cast<size_t>(sizeY(s))));
  std::vector<std::thread> threads;
  for (auto& result : results)
    threads.emplace_back([&] {
      std::vector<float> scratch(static_cast<size_t>(scratchBytes(plan)) / 4 + 16);
      float* aligned =
          reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(scratch.data()) + 63) / 64 * 64);
      for (int round = 0; round < 5; ++round)
        runConv<float>(plan, values.data(), values.data() + sizeX(s), result.data(), false,
                       aligned);
    });
  for (auto& thread : threads) thread.join();
  for (const auto& result : results) CHECK(result == results[0]);
}

}  // namespace
