// Labelled contractions against a loop over every index, in f64.
#include <doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "run/kernels/blocked.h"
#include "run/kernels/dot.h"

extern "C" void openblas_set_num_threads(int);

namespace {

using namespace eigenscope;

template <class T>
std::vector<T> draw(int64_t n, uint32_t seed) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<double> uniform(-1, 1);
  std::vector<T> values(static_cast<size_t>(n));
  for (T& value : values) value = static_cast<T>(uniform(generator));
  return values;
}

struct Case {
  std::string labels, a, b, out;
  std::map<char, int64_t> sizes;

  Case(const std::string& text, std::map<char, int64_t> given)
      : labels(text), sizes(std::move(given)) {
    const size_t comma = text.find(','), arrow = text.find("->");
    a = text.substr(0, comma);
    b = text.substr(comma + 1, arrow - comma - 1);
    out = text.substr(arrow + 2);
  }
  Shape shape(const std::string& names) const {
    Shape result;
    for (char label : names) result.push_back(sizes.at(label));
    return result;
  }
  int64_t at(const std::string& names, const std::map<char, int64_t>& index) const {
    int64_t offset = 0;
    for (char label : names) offset = offset * sizes.at(label) + index.at(label);
    return offset;
  }
};

template <class T>
std::vector<double> naive(const Case& c, const std::vector<T>& a, const std::vector<T>& b,
                          std::vector<double> out) {
  std::map<char, int64_t> index;
  int64_t total = 1;
  for (const auto& [label, size] : c.sizes) {
    index[label] = 0;
    total *= size;
  }
  for (int64_t i = 0; i < total; ++i) {
    int64_t rest = i;
    for (const auto& [label, size] : c.sizes) {
      index[label] = rest % size;
      rest /= size;
    }
    out[c.at(c.out, index)] += static_cast<double>(a[c.at(c.a, index)]) * b[c.at(c.b, index)];
  }
  return out;
}

template <class T>
void check(const Case& c) {
  CAPTURE(c.labels);
  CAPTURE(sizeof(T));
  const Shape sa = c.shape(c.a), sb = c.shape(c.b), so = c.shape(c.out);
  const auto a = draw<T>(count(sa), 1), b = draw<T>(count(sb), 2);
  const auto start = draw<T>(count(so), 3);
  const DotPlan plan = planDot(c.labels, sa, sb);
  CHECK(plan.outShape == so);
  const int64_t bytes = scratchBytes(plan, sizeof(T));
  std::vector<T> scratch(static_cast<size_t>(bytes) / sizeof(T) + 1, T(NAN));
  double terms = 1;
  for (const auto& [label, size] : c.sizes)
    if (c.out.find(label) == std::string::npos) terms *= static_cast<double>(size);
  const double tolerance = (sizeof(T) == 4 ? 1e-6 : 1e-14) * std::sqrt(terms + 1) * 4;
  for (bool accumulate : {false, true}) {
    std::vector<T> out = accumulate ? start : std::vector<T>(start.size(), T(NAN));
    runDot(plan, a.data(), b.data(), out.data(), accumulate, scratch.data());
    const auto expected = naive(c, a, b,
                                accumulate ? std::vector<double>(start.begin(), start.end())
                                           : std::vector<double>(start.size()));
    double worst = 0;
    for (size_t i = 0; i < out.size(); ++i) {
      const double error = std::abs(out[i] - expected[i]);
      worst = std::isnan(error) ? 1e30 : std::max(worst, error);
    }
    CHECK(worst <= tolerance);
  }
}

TEST_CASE("every contraction of the dense, convolutional and attention programs") {
  openblas_set_num_threads(1);
  const std::map<char, int64_t> sizes{{'K', 3},  {'b', 17}, {'i', 21}, {'o', 13}, {'t', 9},
                                      {'s', 11}, {'h', 4},  {'d', 8},  {'e', 6}};
  for (const char* labels : {"bi,oi->bo",
                             "bi,io->bo",
                             "bo,oi->bi",
                             "bi,bo->oi",
                             "bi,bo->io",
                             "Kbi,io->Kbo",
                             "Kbi,oi->Kbo",
                             "bi,Kio->Kbo",
                             "bi,Koi->Kbo",
                             "bo,Koi->Kbi",
                             "Kbi,bo->Kio",
                             "Kbi,bo->Koi",
                             "bi,Kbo->Kio",
                             "bi,Kbo->Koi",
                             "Kbi,Kio->Kbo",
                             "bi,bi->b",
                             "bi,bi->",
                             "b,i->bi",
                             "b,->b",
                             ",->",
                             "bi,i->b",
                             "i,bi->b",
                             "i,i->",
                             "bi,b->bi",
                             "bi,b->i",
                             "bti,oi->bto",
                             "bti,bto->oi",
                             "Kbti,bto->Koi",
                             "bthd,bshd->bhts",
                             "Kbthd,bshd->Kbhts",
                             "bthd,Kbshd->Kbhts",
                             "bhts,bshd->bthd",
                             "Kbhts,bshd->Kbthd",
                             "bhts,Kbshd->Kbthd",
                             "bhts,bthd->bshd",
                             "bhtd,bhsd->bhts",
                             "bhts,bhsd->bhtd",
                             "bthd,hde->bte",
                             "bte,hde->bthd",
                             "Kbte,hde->Kbthd",
                             "bte,bthd->hde",
                             "Kbte,bthd->Khde",
                             "bth,bsh->bts",
                             "tbd,bsd->tsb",
                             "bst,tbd->dbs",
                             "hbtd,dhs->sbt",
                             "oib,bi->oi",
                             "bio,bi->ob",
                             "Kbi,Kbo->Kio",
                             "Kbi,Kbo->io",
                             "dbt,dbt->tb",
                             "thb,bs->sht",
                             "bts,d->dstb"}) {
    std::map<char, int64_t> used;
    for (char label : std::string(labels))
      if (sizes.count(label)) used[label] = sizes.at(label);
    const Case c(labels, used);
    check<float>(c);
    check<double>(c);
  }
}

TEST_CASE("random contractions of random sizes, 1 among them") {
  openblas_set_num_threads(1);
  std::mt19937 generator(7);
  for (int round = 0; round < 400; ++round) {
    std::string a, b, out;
    std::map<char, int64_t> used;
    const int labels = 1 + static_cast<int>(generator() % 5);
    for (int i = 0; i < labels; ++i) {
      const char label = "Kbcde"[i];
      const int where = static_cast<int>(generator() % 4);
      used[label] = std::vector<int64_t>{1, 2, 3, 7, 16, 19}[generator() % 6];
      if (where != 1) a += label;
      if (where != 2) b += label;
      if (where != 3) out += label;
    }
    std::shuffle(a.begin(), a.end(), generator);
    std::shuffle(b.begin(), b.end(), generator);
    std::shuffle(out.begin(), out.end(), generator);
    const Case c(a + "," + b + "->" + out, used);
    check<float>(c);
    check<double>(c);
  }
}

TEST_CASE("matrices at and around the block sizes of the kernels") {
  openblas_set_num_threads(1);
  std::mt19937 generator(11);
  for (const char* labels : {"mk,kn->mn", "km,kn->mn", "mk,nk->mn", "km,nk->mn", "km,nk->nm"})
    for (int round = 0; round < 40; ++round) {
      const auto size = [&] {
        return std::vector<int64_t>{1,  2,  5,  6,  8,  12, 15, 16, 17, 31,
                                    32, 33, 47, 48, 49, 64, 65, 96, 130}[generator() % 19];
      };
      const Case c(labels, {{'m', size()}, {'n', size()}, {'k', size()}});
      check<float>(c);
      check<double>(c);
    }
}

template <class T>
void checkBlocked(std::mt19937& generator) {
  const auto below = [&](int64_t n) {
    return static_cast<int64_t>(generator() % static_cast<uint64_t>(n));
  };
  const int64_t m = 1 + below(40), n = 1 + below(generator() % 4 ? 120 : 700);
  const int64_t k = 1 + below(generator() % 4 ? 60 : 420);
  const bool transA = below(2), transB = below(2), accumulate = below(2);
  const int64_t lda = (transA ? m : k) + below(3), ldb = (transB ? k : n) + below(3);
  const int64_t ldc = n + below(3);
  const auto a = draw<T>(lda * (transA ? k : m), 1), b = draw<T>(ldb * (transB ? n : k), 2);
  const auto start = draw<T>(m * ldc, 3);
  auto c = start;
  blockedGemm(m, n, k, a.data(), transA ? 1 : lda, transA ? lda : 1, b.data(), transB ? 1 : ldb,
              transB ? ldb : 1, c.data(), ldc, accumulate);
  double worst = 0;
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < ldc; ++j) {
      double sum = accumulate || j >= n ? start[i * ldc + j] : 0;
      for (int64_t p = 0; j < n && p < k; ++p)
        sum += static_cast<double>(a[transA ? p * lda + i : i * lda + p]) *
               b[transB ? j * ldb + p : p * ldb + j];
      worst = std::max(worst, std::abs(c[i * ldc + j] - sum));
    }
  CHECK(worst <= (sizeof(T) == 4 ? 3e-6 : 6e-15) * std::sqrt(static_cast<double>(k) + 1));
}

TEST_CASE("our own matrix product, with gaps between rows, touches nothing else") {
  if (!hasBlockedGemm()) return;
  std::mt19937 generator(13);
  for (int round = 0; round < 150; ++round) {
    checkBlocked<float>(generator);
    checkBlocked<double>(generator);
  }
}

TEST_CASE("an empty sum is zero and an empty result is left alone") {
  const DotPlan sum = planDot("bi,oi->bo", {2, 0}, {3, 0});
  std::vector<double> out(6, 5.0);
  runDot<double>(sum, nullptr, nullptr, out.data(), true, nullptr);
  CHECK(out == std::vector<double>(6, 5.0));
  runDot<double>(sum, nullptr, nullptr, out.data(), false, nullptr);
  CHECK(out == std::vector<double>(6, 0.0));
  const DotPlan none = planDot("bi,oi->bo", {0, 4}, {3, 4});
  runDot<double>(none, nullptr, nullptr, nullptr, false, nullptr);
}

TEST_CASE("directions stack into one product where the layout lets them") {
  const auto calls = [](const char* labels, Shape a, Shape b) {
    int64_t n = 1;
    for (const auto& loop : planDot(labels, a, b).loops) n *= loop.size;
    return n;
  };
  CHECK(calls("Kbi,io->Kbo", {4, 32, 50}, {50, 20}) == 1);
  CHECK(calls("bti,oi->bto", {8, 32, 50}, {20, 50}) == 1);
  CHECK(calls("bti,bto->oi", {8, 32, 50}, {8, 32, 20}) == 1);
  CHECK(calls("bi,Kio->Kbo", {32, 50}, {4, 50, 20}) == 4);
  CHECK(calls("Kbi,bo->Kio", {4, 32, 50}, {32, 20}) == 4);
  CHECK(calls("bthd,hde->bte", {8, 16, 4, 8}, {4, 8, 32}) == 1);
  const auto scores = planDot("bthd,bshd->bhts", {4, 64, 4, 32}, {4, 64, 4, 32});
  CHECK(scratchBytes(scores, 4) == 0);
  CHECK(scores.loops.size() == 2);
}

TEST_CASE("labels that do not fit are refused") {
  CHECK_THROWS_AS(planDot("bi,oi->bq", {2, 3}, {4, 3}), Error);
  CHECK_THROWS_AS(planDot("bi,oi->bo", {2, 3}, {4, 5}), Error);
  CHECK_THROWS_AS(planDot("bi,oj->bo", {2, 3}, {4, 3}), Error);
  CHECK_THROWS_AS(planDot("bi,oi->bo", {2, 3, 1}, {4, 3}), Error);
  CHECK_THROWS_AS(planDot("bb,ob->bo", {2, 2}, {4, 2}), Error);
  CHECK_THROWS_AS(planDot("bi", {2, 3}, {4, 3}), Error);
}

}  // namespace
