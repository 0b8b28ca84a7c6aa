#include "onnx/intended.h"

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <numbers>
#include <string>

namespace eigenscope::onnx {

namespace {

constexpr int kMostDigits = 6;
constexpr double kMostInteger = 65536;

constexpr double kConstants[] = {
    std::numbers::pi,
    std::numbers::e,
    std::numbers::ln2,
    std::numbers::log2e,
    std::numbers::ln10,
    std::numbers::inv_sqrtpi,
    2 * std::numbers::inv_sqrtpi,
    std::numbers::inv_sqrtpi / std::numbers::sqrt2,  // 1 / sqrt(2 pi)
    std::numbers::inv_sqrtpi* std::numbers::sqrt2,   // sqrt(2 / pi), tanh GELU
    1.6732632423543772848,                           // SELU's alpha
    1.0507009873554804934,                           // SELU's gamma
};

int significantDigits(const std::string& text) {
  std::string digits;
  for (char c : text) {
    if (c == 'e') break;
    if (c >= '0' && c <= '9') digits += c;
  }
  const size_t first = digits.find_first_not_of('0');
  if (first == digits.npos) return 0;
  return static_cast<int>(digits.find_last_not_of('0') - first + 1);
}

}  // namespace

double intendedNumber(float stored) {
  const auto literal = static_cast<double>(stored);
  if (!std::isfinite(stored) || stored == 0) return literal;
  char buffer[64];
  const std::string text(buffer, std::to_chars(buffer, buffer + sizeof buffer, stored).ptr);
  if (significantDigits(text) <= kMostDigits) return std::strtod(text.c_str(), nullptr);

  const double size = std::abs(literal);
  auto same = [&](double candidate) { return static_cast<float>(candidate) == std::abs(stored); };
  for (int power : {1, 2, 4})
    for (double sign : {1.0, -1.0}) {
      const double n = std::round(std::pow(size, sign * power));
      if (n < 2 || n > kMostInteger) continue;
      const double root = power == 1 ? n : power == 2 ? std::sqrt(n) : std::sqrt(std::sqrt(n));
      const double candidate = sign > 0 ? root : 1 / root;
      if (same(candidate)) return std::copysign(candidate, literal);
    }
  for (double constant : kConstants)
    if (same(constant)) return std::copysign(constant, literal);
  return literal;
}

}  // namespace eigenscope::onnx
