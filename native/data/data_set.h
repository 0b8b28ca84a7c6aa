#pragma once

#include <string>
#include <utility>
#include <vector>

#include "data/readers.h"

namespace eigenscope {

struct DataSource {
  std::string name;  // of the array; empty: the file's own names
  std::string path;
};

struct DataOptions {
  ReadOptions read;
  // What the target array is called; also the column of a CSV table that becomes it.
  std::string target = "y";
  // The arrays to keep, in this order; empty keeps all.
  std::vector<std::string> select;
  // Keep samples [first, last) only; last < 0 means all from first.
  int64_t first = 0, last = -1;
  // By array name; "" stands for every array but the target.
  std::vector<std::pair<std::string, Normalize>> normalize;
};

// Arrays by name, with one row a sample. Immutable; copies share the arrays.
class DataSet {
 public:
  DataSet(std::vector<Array> arrays, DataOptions options = {}, std::vector<Skipped> skipped = {},
          std::vector<std::string> columns = {});

  // Opens the files and adds the arrays at hand. A named file must hold one array, or one of that
  // name. Throws Error (DataMismatch, Option) naming the file.
  static DataSet open(const std::vector<DataSource>& sources, std::vector<Array> arrays = {},
                      DataOptions options = {});

  const std::vector<Array>& arrays() const { return arrays_; }
  const Array* find(const std::string& name) const;
  const std::string& target() const { return target_; }

  // The arrays of these names, in this order. Throws Error (DataMismatch) listing what there is.
  DataSet select(const std::vector<std::string>& names) const;

  // The number of rows that all arrays have. Throws Error (DataMismatch) naming those that differ,
  // a scalar, or that there are none.
  int64_t samples() const;

  // Memory of the heap that the arrays hold; mapped files count nothing.
  int64_t heldBytes() const;

  // One column of a CSV table as an array (N,), or nullopt.
  std::optional<Array> column(const std::string& name) const;

  // "x float32 (1000, 784), y int64 (1000,)", then what was left out and why.
  std::string describe() const;

  const std::vector<Skipped>& skipped() const { return skipped_; }

 private:
  std::vector<Array> arrays_;
  std::vector<Skipped> skipped_;
  std::vector<std::string> columns_;
  std::string target_;
};

// What a model says of an input: dims[0] is the batch axis, -1 a length that is not fixed.
struct InputSpec {
  std::string name;
  ElementType type = ElementType::F32;
  Shape dims;
  bool ranked = true;  // false: the model declares no shape, so any will do
};

struct BoundData {
  std::vector<Array> inputs;    // in the order of the model's inputs, with the declared rank
  std::optional<Array> target;  // as in the data
  int64_t samples = 0;
};

// Matches the arrays with a model's inputs. Arrays are named like the inputs, and the target "y"
// (DataOptions::target); a model with one input takes an array of any name. Fixed lengths must
// agree, except that of the batch axis; axes of length 1 may be missing in the data, such as the
// channel of gray images: (N, 28, 28) for [N, 1, 28, 28]. Nothing else is reshaped. Throws Error
// (DataMismatch) with what the model wants and what the data have.
BoundData bindInputs(const DataSet& data, const std::vector<InputSpec>& inputs, bool wantTarget);

}  // namespace eigenscope
