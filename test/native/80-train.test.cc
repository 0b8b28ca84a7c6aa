// The order of samples and the update rules, number by number.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "train/optimizer.h"
#include "train/trainer.h"

using namespace eigenscope;

TEST_CASE("an epoch's order is a permutation that seed and epoch fix") {
  const int64_t n = 1000;
  auto order = epochOrder(n, true, 7, 3);
  CHECK(order == epochOrder(n, true, 7, 3));
  CHECK(order != epochOrder(n, true, 7, 4));
  CHECK(order != epochOrder(n, true, 8, 3));
  auto sorted = order;
  std::sort(sorted.begin(), sorted.end());
  std::vector<int64_t> all(n);
  std::iota(all.begin(), all.end(), 0);
  CHECK(sorted == all);
  CHECK(epochOrder(n, false, 7, 3) == all);
  // About as many descents as ascents, and about one fixed point.
  int64_t descents = 0, fixed = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (i + 1 < n) descents += order[i + 1] < order[i];
    fixed += order[i] == i;
  }
  CHECK(std::abs(descents - n / 2) < 50);
  CHECK(fixed < 8);
  CHECK(epochOrder(1, true, 0, 0) == std::vector<int64_t>{0});
  CHECK(epochOrder(0, true, 0, 0).empty());
}

TEST_CASE("every order of three samples is as likely") {
  std::vector<int> counts(27);
  for (uint64_t epoch = 0; epoch < 6000; ++epoch) {
    const auto order = epochOrder(3, true, 1, epoch);
    ++counts[static_cast<size_t>(9 * order[0] + 3 * order[1] + order[2])];
  }
  int orders = 0;
  for (int count : counts) {
    if (count == 0) continue;
    ++orders;
    CHECK(std::abs(count - 1000) < 5 * 29);  // binomial, five standard deviations
  }
  CHECK(orders == 6);
}

TEST_CASE("updates act on each number alone, and leave what is held") {
  const int64_t n = 1300;  // more than a tile
  for (const auto rule :
       {OptimizerOptions::Rule::Sgd, OptimizerOptions::Rule::Adam, OptimizerOptions::Rule::AdamW}) {
    OptimizerOptions options;
    options.rule = rule;
    options.momentum = rule == OptimizerOptions::Rule::Sgd ? 0.5 : 0;
    options.weightDecay = 0.1;
    const bool two = momentsOf(options) == 2;
    std::vector<double> theta(n), gradient(n), first(n), second(n);
    std::vector<uint8_t> keep(n);
    for (int64_t i = 0; i < n; ++i) {
      theta[i] = std::sin(i + 1.0);
      gradient[i] = std::cos(2.0 * i);
      keep[i] = i % 3 != 0;
    }
    auto at = [&](std::vector<double>& t, std::vector<double>& f, std::vector<double>& s,
                  const uint8_t* mask) {
      return Update<double>{0.1,      0,        gradient.data(),         mask,
                            t.data(), f.data(), two ? s.data() : nullptr};
    };
    auto whole = theta, wholeFirst = first, wholeSecond = second;
    update(options, at(whole, wholeFirst, wholeSecond, nullptr), 0, n);
    auto parts = theta, partsFirst = first, partsSecond = second;
    for (int64_t from = 0; from < n; from += 333)
      update(options, at(parts, partsFirst, partsSecond, nullptr), from, std::min(n, from + 333));
    CHECK(parts == whole);
    CHECK(partsFirst == wholeFirst);
    auto held = theta, heldFirst = first, heldSecond = second;
    update(options, at(held, heldFirst, heldSecond, keep.data()), 0, n);
    for (int64_t i = 0; i < n; ++i) {
      CHECK(held[i] == (keep[i] ? whole[i] : theta[i]));
      CHECK(heldFirst[i] == (keep[i] ? wholeFirst[i] : 0));
    }
  }
  OptimizerOptions plain;
  CHECK(momentsOf(plain) == 0);
}
