#include "run/draw.h"

#include <cmath>
#include <numbers>

#include "base/error.h"
#include "base/philox.h"

namespace eigenscope {

DrawPlan planDraw(const Attr& attr, const Shape& in, const Shape&) {
  DrawPlan plan;
  plan.kind = static_cast<DrawKind>(attr.ints[0]);
  plan.draws = attr.ints[1];
  plan.seed = static_cast<uint64_t>(attr.ints[2]);
  plan.samples = in[0];
  plan.perSample = plan.samples ? count(in) / plan.samples : 0;
  plan.node = plan.kind == DrawKind::Dropout ? attr.ints[3] : 0;
  plan.ratio = attr.number;
  plan.classes = plan.kind == DrawKind::Categorical ? in.back() : 1;
  return plan;
}

double dropoutAt(uint64_t seed, int64_t node, int64_t position, double ratio) {
  const double u = randomUniform(seed, RandomStream::Dropout, static_cast<uint64_t>(node),
                                 static_cast<uint64_t>(position));
  return u < ratio ? 0 : 1 / (1 - ratio);
}

namespace {

double uniformAt(const DrawPlan& plan, int64_t draw, int64_t position) {
  return randomUniform(plan.seed, RandomStream::FisherDraw, static_cast<uint64_t>(draw),
                       static_cast<uint64_t>(position));
}

double normalAt(const DrawPlan& plan, int64_t draw, int64_t position) {
  const PhiloxWords w = randomWords(plan.seed, RandomStream::FisherDraw,
                                    static_cast<uint64_t>(draw), static_cast<uint64_t>(position));
  return std::sqrt(-2.0 * std::log(uniformFromWords(w[0], w[1]))) *
         std::cos(2 * std::numbers::pi * uniformFromWords(w[2], w[3]));
}

}  // namespace

template <class T>
void runDraw(const DrawPlan& plan, int64_t begin, const T* p, T* out) {
  const int64_t c = plan.classes, items = plan.perSample / c;
  for (int64_t m = 0; m < plan.draws; ++m)
    for (int64_t n = 0; n < plan.samples; ++n)
      for (int64_t i = 0; i < items; ++i) {
        const T* chance = p + n * plan.perSample + i * c;
        T* to = out + (m * plan.samples + n) * plan.perSample + i * c;
        const int64_t position = (begin + n) * items + i;
        switch (plan.kind) {
          case DrawKind::Categorical: {
            // The probabilities sum to 1 up to rounding; scaling by their sum keeps the last class
            // from taking what is missing.
            double sum = 0, below = 0;
            for (int64_t k = 0; k < c; ++k) sum += static_cast<double>(chance[k]);
            const double u = uniformAt(plan, m, position) * sum;
            int64_t drawn = c - 1;
            for (int64_t k = 0; k < c; ++k) {
              below += static_cast<double>(chance[k]);
              if (u < below) {
                drawn = k;
                break;
              }
            }
            for (int64_t k = 0; k < c; ++k) to[k] = k == drawn;
            break;
          }
          case DrawKind::Bernoulli:
            *to = uniformAt(plan, m, position) < static_cast<double>(*chance);
            break;
          case DrawKind::Normal: *to = static_cast<T>(normalAt(plan, m, position)); break;
          case DrawKind::Dropout:
            *to = static_cast<T>(dropoutAt(plan.seed, plan.node, position, plan.ratio));
            break;
        }
      }
}

template void runDraw<float>(const DrawPlan&, int64_t, const float*, float*);
template void runDraw<double>(const DrawPlan&, int64_t, const double*, double*);

}  // namespace eigenscope
