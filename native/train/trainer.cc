#include "train/trainer.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/philox.h"
#include "run/pool.h"

namespace eigenscope {

std::vector<int64_t> epochOrder(int64_t samples, bool shuffle, uint64_t seed, uint64_t epoch) {
  std::vector<int64_t> order(static_cast<size_t>(samples));
  std::iota(order.begin(), order.end(), 0);
  if (!shuffle) return order;
  for (int64_t i = samples - 1; i > 0; --i) {
    // A whole number below i + 1 from 64 bits by the high part of the product.
    const PhiloxWords words =
        randomWords(seed, RandomStream::Order, epoch, static_cast<uint64_t>(i));
    const uint64_t bits = uint64_t{words[0]} << 32 | words[1];
    const auto j = static_cast<int64_t>(
        static_cast<unsigned __int128>(bits) * static_cast<uint64_t>(i + 1) >> 64);
    std::swap(order[static_cast<size_t>(i)], order[static_cast<size_t>(j)]);
  }
  return order;
}

std::vector<double> Trainer::run(const TrainOptions& options, TrainState& state,
                                 std::span<const double> rates, std::span<const uint8_t> keep,
                                 Task& task) {
  return batches_.options().precision == Precision::F32
             ? runAs<float>(options, state, rates, keep, task)
             : runAs<double>(options, state, rates, keep, task);
}

template <class T>
std::vector<double> Trainer::runAs(const TrainOptions& options, TrainState& state,
                                   std::span<const double> rates, std::span<const uint8_t> keep,
                                   Task& task) {
  const int64_t dim = batches_.dim(), samples = batches_.samples();
  const int64_t perEpoch =
      options.dropLast ? samples / batchSize_ : (samples + batchSize_ - 1) / batchSize_;
  if (perEpoch == 0)
    throw Error(ErrorKind::Option, "batchSize: expected at most the " + std::to_string(samples) +
                                       " samples where the last minibatch is dropped, got " +
                                       std::to_string(batchSize_));
  std::vector<T> theta(state.theta.begin(), state.theta.end());
  std::vector<T> first(state.first.begin(), state.first.end());
  std::vector<T> second(state.second.begin(), state.second.end());
  std::vector<T> gradient(static_cast<size_t>(dim));
  std::vector<double> losses;
  std::vector<int64_t> order;
  int64_t epoch = -1, step = state.step, updates = state.updates;
  constexpr int64_t kRun = 1 << 14;
  double recent = 0;
  for (double rate : rates) {
    if (step / perEpoch != epoch) {
      epoch = step / perEpoch;
      order = epochOrder(samples, options.shuffle, options.seed, static_cast<uint64_t>(epoch));
    }
    const int64_t begin = step % perEpoch * batchSize_;
    const int64_t end = std::min(samples, begin + batchSize_);
    const std::span<const int64_t> batch(order.data() + begin, static_cast<size_t>(end - begin));
    const double loss = batches_.gradient<T>(batch, theta.data(), gradient.data(), task);
    if (!std::isfinite(loss))
      throw Error(ErrorKind::NotConverged,
                  "train: the loss of step " + std::to_string(step) +
                      (std::isnan(loss) ? " is not a number" : " is infinite") +
                      ": the training diverged; take a smaller learning "
                      "rate, or a warm-up");
    losses.push_back(loss);
    const Update<T> u{rate,
                      updates,
                      gradient.data(),
                      keep.empty() ? nullptr : keep.data(),
                      theta.data(),
                      first.empty() ? nullptr : first.data(),
                      second.empty() ? nullptr : second.data()};
    parallel(batches_.threadsFor(dim), (dim + kRun - 1) / kRun, [&](int, int64_t r) {
      update(options.optimizer, u, r * kRun, std::min(dim, (r + 1) * kRun));
    });
    ++step;
    ++updates;
    // About the mean of the last losses.
    const auto made = static_cast<double>(losses.size());
    recent += (loss - recent) / std::min(made, 50.0);
    if (task.report) task.report({step, recent, made / static_cast<double>(rates.size())});
  }
  const auto bad = std::find_if(theta.begin(), theta.end(), [](T x) { return !std::isfinite(x); });
  if (bad != theta.end())
    throw Error(ErrorKind::NotConverged,
                "train: parameters are not finite after step " + std::to_string(step) +
                    ": the training diverged; take a smaller learning rate, or a warm-up");
  state.step = step;
  state.updates = updates;
  std::copy(theta.begin(), theta.end(), state.theta.begin());
  std::copy(first.begin(), first.end(), state.first.begin());
  std::copy(second.begin(), second.end(), state.second.begin());
  return losses;
}

}  // namespace eigenscope
