#include "train/optimizer.h"

#include <cmath>
#include <initializer_list>

namespace eigenscope {

int momentsOf(const OptimizerOptions& options) {
  if (options.rule != OptimizerOptions::Rule::Sgd) return 2;
  return options.momentum != 0 ? 1 : 0;
}

namespace {

// torch.optim.SGD: g += decay theta; b = momentum b + (1 - dampening) g, at first g; the step is
// along b, with Nesterov along g + momentum b.
template <class T>
void sgd(const OptimizerOptions& options, const Update<T>& u, int64_t from, int64_t to) {
  const T rate = static_cast<T>(u.rate), decay = static_cast<T>(options.weightDecay);
  const T momentum = static_cast<T>(options.momentum);
  const T fresh = u.updates == 0 ? T{1} : static_cast<T>(1 - options.dampening);
  const bool nesterov = options.nesterov;
  if (options.momentum == 0) {
    for (int64_t i = from; i < to; ++i) u.theta[i] -= rate * (u.gradient[i] + decay * u.theta[i]);
    return;
  }
  for (int64_t i = from; i < to; ++i) {
    const T g = u.gradient[i] + decay * u.theta[i];
    const T b = momentum * u.first[i] + fresh * g;
    u.first[i] = b;
    u.theta[i] -= rate * (nesterov ? g + momentum * b : b);
  }
}

// torch.optim.Adam and AdamW (Kingma and Ba 2015; Loshchilov and Hutter 2019).
template <class T>
void adam(const OptimizerOptions& options, const Update<T>& u, int64_t from, int64_t to) {
  const bool decoupled = options.rule == OptimizerOptions::Rule::AdamW;
  const auto step = static_cast<double>(u.updates + 1);
  const double correction1 = 1 - std::pow(options.beta1, step);
  const double correction2 = 1 - std::pow(options.beta2, step);
  const T beta2 = static_cast<T>(options.beta2);
  const T share1 = static_cast<T>(1 - options.beta1), share2 = static_cast<T>(1 - options.beta2);
  const T size = static_cast<T>(u.rate / correction1);
  const T root = static_cast<T>(std::sqrt(correction2)), epsilon = static_cast<T>(options.epsilon);
  const T decay = static_cast<T>(decoupled ? 0 : options.weightDecay);
  const T shrink = static_cast<T>(decoupled ? 1 - u.rate * options.weightDecay : 1);
  for (int64_t i = from; i < to; ++i) {
    const T theta = u.theta[i] * shrink;
    const T g = u.gradient[i] + decay * theta;
    const T m = u.first[i] + share1 * (g - u.first[i]);
    const T v = beta2 * u.second[i] + share2 * g * g;
    u.first[i] = m;
    u.second[i] = v;
    u.theta[i] = theta - size * m / (std::sqrt(v) / root + epsilon);
  }
}

}  // namespace

template <class T>
void update(const OptimizerOptions& options, const Update<T>& u, int64_t from, int64_t to) {
  // Held numbers are put back after each tile, so that the loops stay without branches.
  constexpr int64_t kTile = 512;
  T held[kTile];
  for (int64_t begin = from; begin < to; begin += kTile) {
    const int64_t end = begin + kTile < to ? begin + kTile : to;
    if (u.keep)
      for (int64_t i = begin; i < end; ++i) held[i - begin] = u.theta[i];
    if (options.rule == OptimizerOptions::Rule::Sgd)
      sgd(options, u, begin, end);
    else
      adam(options, u, begin, end);
    if (!u.keep) continue;
    for (int64_t i = begin; i < end; ++i) u.theta[i] = u.keep[i] ? u.theta[i] : held[i - begin];
    for (T* moment : {u.first, u.second})
      if (moment)
        for (int64_t i = begin; i < end; ++i) moment[i] = u.keep[i] ? moment[i] : T{0};
  }
}

template void update(const OptimizerOptions&, const Update<float>&, int64_t, int64_t);
template void update(const OptimizerOptions&, const Update<double>&, int64_t, int64_t);

}  // namespace eigenscope
