#pragma once

#include <cstdint>

namespace eigenscope {

// Update rules as torch.optim defines them, term by term and in its order of operations.
struct OptimizerOptions {
  enum class Rule { Sgd, Adam, AdamW } rule = Rule::Sgd;
  double weightDecay = 0;
  double momentum = 0, dampening = 0;  // Sgd
  bool nesterov = false;               // Sgd
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
};

// How many vectors of a number a parameter the rule keeps.
int momentsOf(const OptimizerOptions& options);

// Numbers [from, to) of the parameters after one more update.
template <class T>
struct Update {
  double rate = 0;
  int64_t updates = 0;  // made before
  const T* gradient = nullptr;
  const uint8_t* keep = nullptr;  // 0: held where it is; null: none is
  T* theta = nullptr;
  T* first = nullptr;   // momentum, or the mean of gradients
  T* second = nullptr;  // the mean of their squares
};
template <class T>
void update(const OptimizerOptions& options, const Update<T>& u, int64_t from, int64_t to);

}  // namespace eigenscope
