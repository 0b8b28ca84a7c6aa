#include "11-lower.h"
#include "onnx/table.h"

using namespace eigenscope::onnx;
using namespace eigenscope::onnx::test;

TEST_SUITE("lowering: the table") {
  TEST_CASE("names and opsets are in order and do not overlap") {
    const std::vector<Operator>& rows = operators();
    REQUIRE(rows.size() > 100);
    for (size_t i = 0; i < rows.size(); ++i) {
      CAPTURE(rows[i].name);
      CHECK(static_cast<bool>(rows[i].lower));
      CHECK(rows[i].since >= kFirstOpset);
      CHECK(rows[i].since <= rows[i].until);
      CHECK(rows[i].until <= kNewestOpset);
      if (i > 0 && rows[i].fullName() == rows[i - 1].fullName())
        CHECK(rows[i].since > rows[i - 1].until);
    }
  }

  TEST_CASE("a form that is too new for the model's opset is refused") {
    Net net(19);
    net.input("x", {1}, {1}).node("Gelu", {"x"}, {"y"});
    CHECK(contains(messageOf(eigenscope::ErrorKind::UnsupportedOperator, [&] { net.lower("y"); }),
                   "opset 19"));
  }

  // Runs after the other files of lowering tests, whose cases it counts.
  TEST_CASE("every operator has a case") {
    if (lowered().size() < 20) return;  // a few cases were picked by name
    for (const Operator& row : operators()) {
      CAPTURE(row.name);
      if (row.name == "Loop" || row.name == "Scan") continue;  // written out before
      CHECK(lowered().count(row.fullName()) == 1);
    }
  }
}
