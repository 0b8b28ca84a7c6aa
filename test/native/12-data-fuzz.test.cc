// Damaged files of every format: each must give arrays that can be read in full, or an Error; run
// under the sanitizers this finds reads beyond the bytes. EIGENSCOPE_FUZZ_SECONDS prolongs it.
#include <chrono>
#include <cstdlib>
#include <random>

#include "data_fixtures.h"

using namespace eigenscope;
using namespace eigenscope::fixtures;

namespace {

const std::vector<std::string> kSeeds = {
    "v1.npy",
    "v2.npy",
    "v3.npy",
    "fortran.npy",
    "big.npy",
    "scalar.npy",
    "stored.npz",
    "deflated.npz",
    "zip64.npz",
    "text.npz",
    "types.npz",
    "types.safetensors",
    "xy.safetensors",
    "labels-idx1-ubyte",
    "images-idx3-ubyte",
    "images-idx3-ubyte.gz",
};

const std::string kTable = "a,\"b\",y\n1,-2.5e3,0\n# c\n3.25,+4,1\n\n1e-3,nan,2\n";

std::string damaged(std::string text, std::mt19937& random) {
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  const std::size_t edits = 1 + below(4);
  for (std::size_t i = 0; i < edits && !text.empty(); ++i) {
    const std::size_t at = below(text.size());
    static constexpr unsigned char kBytes[] = {0,   1,   0x7f, 0x80, 0xff, '"',
                                               '(', '{', ',',  '-',  '9'};
    switch (below(7)) {
      case 0: text[at] = static_cast<char>(random()); break;
      case 1: text[at] = static_cast<char>(text[at] ^ (1 << below(8))); break;
      case 2: text[at] = static_cast<char>(kBytes[below(sizeof kBytes)]); break;
      case 3: text.resize(at); break;
      case 4: text.insert(at, text.substr(below(text.size()), below(16))); break;
      case 5: text.erase(at, 1 + below(16)); break;
      case 6:  // a length or offset made extreme
        for (std::size_t b = 0; b < 8 && at + b < text.size(); ++b)
          text[at + b] = static_cast<char>(below(2) ? 0xff : 0);
        break;
    }
  }
  return text;
}

// Reads everything that was accepted. Returns whether anything was.
bool readAll(const std::string& name, const std::string& text) {
  try {
    const Contents contents = readText(name, text);
    double sum = 0;
    for (const Array& array : contents.arrays) {
      for (double value : valuesOf(array)) sum += value;
      if (array.size() > 0) array.indexText(firstNonFinite(array, 0, array.rows()));
    }
    DataSet(contents.arrays, {}, contents.skipped, contents.columns).describe();
    volatile double used = sum;
    (void)used;
    return true;
  } catch (const Error& error) {
    CHECK(std::string(error.what()).size() > 10);
    CHECK(error.kind != ErrorKind::Internal);
    return false;
  }
}

}  // namespace

TEST_CASE("damaged files give an error or arrays that can be read") {
  const char* asked = std::getenv("EIGENSCOPE_FUZZ_SECONDS");
  const double seconds = asked != nullptr ? std::atof(asked) : 0;
  const auto start = std::chrono::steady_clock::now();
  std::mt19937 random(1);
  int64_t accepted = 0, runs = 0;
  std::vector<std::pair<std::string, std::string>> seeds = {{"table.csv", kTable}};
  for (const std::string& name : kSeeds) seeds.emplace_back(name, contentsOf(pathOf(name)));
  for (const auto& [name, text] : seeds) {
    CAPTURE(name);
    CHECK(readAll(name, text));
    // Every way to cut it short.
    for (std::size_t size = 1; size < text.size(); ++size) readAll(name, text.substr(0, size));
  }
  do {
    for (const auto& [name, text] : seeds)
      for (int i = 0; i < 200; ++i, ++runs) accepted += readAll(name, damaged(text, random));
  } while (std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() <
           seconds);
  // Both outcomes must occur, or the damage is not of the kind that tests anything.
  CHECK(accepted > runs / 1000);
  CHECK(accepted < runs);
  MESSAGE(runs, " damaged files, ", accepted, " still readable");
}
