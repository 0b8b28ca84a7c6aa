#include <doctest.h>

#include <cmath>

#include "onnx/intended.h"

using eigenscope::onnx::intendedNumber;

TEST_CASE("a rounded constant is read as what was rounded") {
  for (double exact : {0.01, 1e-5, 0.044715, 0.2, 100.0, 1e-12, std::sqrt(2.0), 1 / std::sqrt(8.0),
                       std::pow(32.0, -0.25), 1.0 / 6, 1.0 / 3, std::sqrt(2 / std::acos(-1.0)),
                       1.0507009873554805, 0.5, -0.01, -std::sqrt(3.0)}) {
    CAPTURE(exact);
    CHECK(intendedNumber(static_cast<float>(exact)) == doctest::Approx(exact).epsilon(3e-16));
  }
  // Nothing known rounds to these.
  for (float odd : {0.123456789f, 1.2345678f, 3.1415925f, INFINITY, 0.0f})
    CHECK(intendedNumber(odd) == static_cast<double>(odd));
  CHECK(std::isnan(intendedNumber(NAN)));
}
