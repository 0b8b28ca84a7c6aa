#include "11-lower.h"

using namespace eigenscope;
using namespace eigenscope::onnx;
using namespace eigenscope::onnx::test;

// Numbers in a file that no exporter writes: an error of a kind, never a crash or a huge
// allocation.
namespace {

constexpr int64_t kHuge = int64_t{1} << 62;

struct Damage {
  const char* op;
  Shape shape;
  Attributes attributes;
  std::vector<std::vector<int64_t>> settings;  // further inputs
  ErrorKind kind = ErrorKind::DataMismatch;
  int64_t opset = 17;
};

const std::vector<Damage>& damages() {
  static const std::vector<Damage> cases = {
      {"Expand", {2, 3}, {}, {{-100, 3}}},
      {"Expand", {2, 1}, {}, {{kHuge, 2, kHuge}}, ErrorKind::MemoryBudget},
      {"Reshape", {2, 3}, {}, {{-2, -3}}},
      {"Reshape", {2, 3}, {}, {{kHuge, -1}}},
      {"Tile", {2, 3}, {}, {{-1, 1}}},
      {"Tile", {2, 3}, {}, {{kHuge, 1}}, ErrorKind::MemoryBudget},
      {"Pad", {2, 3}, {}, {{0, kHuge, 0, 0}}},
      {"Pad", {2, 3}, {}, {{0, -5, 0, 0}}},
      {"Split", {2, 3}, {{"axis", integer(1)}}, {{-1, 4}}},
      {"DepthToSpace", {1, 4, 2, 2}, {{"blocksize", integer(int64_t{1} << 40)}}, {}},
      {"DepthToSpace", {1, 4, 2, 2}, {{"blocksize", integer(0)}}, {}},
      {"SpaceToDepth", {1, 4, 2, 2}, {{"blocksize", integer(-2)}}, {}},
      {"Gather", {2, 3}, {{"axis", integer(kHuge)}}, {{0}}},
      {"Gather", {2, 3}, {}, {{7}}},
      {"Slice", {2, 3}, {}, {{0}, {1}, {5}}},
      {"Transpose", {2, 3}, {{"perm", ints({0, 0})}}, {}},
      {"ReduceSum", {2, 3}, {}, {{2}}},
      {"Einsum", {2, 3}, {{"equation", text("bi,io->bo")}}, {}},
      {"Einsum", {2, 3}, {{"equation", text("bi->bo")}}, {}},
      {"MaxPool", {1, 1, 4, 4}, {{"kernel_shape", ints({2, kHuge})}}, {}},
      {"MaxPool", {1, 1, 4, 4}, {{"kernel_shape", ints({2, 2})}, {"strides", ints({0, 1})}}, {}},
      {"MaxPool",
       {1, 1, 4, 4},
       {{"kernel_shape", ints({2, 2})}, {"pads", ints({-1, 0, 0, 0})}},
       {}},
      {"LRN", {1, 3, 2}, {{"size", integer(kHuge)}}, {}},
      {"TopK", {2, 3}, {}, {{-1}}},
      {"TopK", {2, 3}, {}, {{kHuge}}},
      {"TopK", {2, 3}, {}, {{}}},
      {"Resize", {2, 3}, {}, {{}, {}, {2, kHuge}}},
      {"Resize", {2, 3}, {}, {{}, {}, {2, -3}}},
      {"Resize", {2, 3}, {}, {{}, {1, kHuge}}},
      {"Resize", {2, 3}, {}, {{}, {}}},
      {"Einsum", {2, 3}, {{"equation", text("b...i.->")}}, {}},
      {"CenterCropPad", {2, 3}, {}, {{2, -1}}, ErrorKind::DataMismatch, 18},
      {"CenterCropPad", {2, 3}, {}, {{2, kHuge}}, ErrorKind::DataMismatch, 18},
      {"AffineGrid", {1, 2, 3}, {}, {{1, 1, 2, kHuge}}, ErrorKind::DataMismatch, 20},
      {"AffineGrid", {1, 2, 3}, {}, {{1, 1, -2, 2}}, ErrorKind::DataMismatch, 20},
  };
  return cases;
}

}  // namespace

TEST_SUITE("lowering: damaged numbers") {
  TEST_CASE("lengths, axes and windows that are out of range") {
    for (const Damage& damage : damages()) {
      CAPTURE(std::string(damage.op));
      Net net(damage.opset);
      net.parameter("x", damage.shape, counting(count(damage.shape)));
      std::vector<std::string> in = {"x"};
      for (const auto& values : damage.settings) {
        in.push_back("s" + std::to_string(in.size()));
        net.known(in.back(), values);
      }
      net.node(damage.op, in, {"y"}, damage.attributes);
      CHECK(!messageOf(damage.kind, [&] { net.lower("y"); }).empty());
    }
  }

  TEST_CASE("a depth that is out of range") {
    for (const double depth : {-1.0, 1e18}) {
      Net net;
      net.input("x", {2}, {0, 1}, Type::Int);
      net.constant(arrayOf("depth", {}, {depth})).constant(arrayOf("values", {2}, {0, 1}));
      net.node("OneHot", {"x", "depth", "values"}, {"y"});
      CHECK(contains(messageOf(ErrorKind::DataMismatch, [&] { net.lower("y"); }), "depth"));
    }
  }
}
