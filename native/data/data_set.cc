#include "data/data_set.h"

#include <algorithm>
#include <set>

namespace eigenscope {

namespace {

std::string namesOf(const std::vector<Array>& arrays) {
  std::string text;
  for (const Array& array : arrays) text += (text.empty() ? "" : ", ") + array.name();
  return text.empty() ? "none" : text;
}

// The one array that a file given under a name stands for.
Array only(const DataSource& source, const Contents& contents) {
  if (contents.arrays.size() == 1) return contents.arrays[0];
  for (const Array& array : contents.arrays)
    if (array.name() == source.name) return array;
  throw Error(ErrorKind::DataMismatch, source.path + ": expected one array, or one named " +
                                           source.name + ", for " + source.name + "; it has " +
                                           namesOf(contents.arrays));
}

}  // namespace

DataSet::DataSet(std::vector<Array> arrays, DataOptions options, std::vector<Skipped> skipped,
                 std::vector<std::string> columns)
    : arrays_(std::move(arrays)),
      skipped_(std::move(skipped)),
      columns_(std::move(columns)),
      target_(std::move(options.target)) {
  for (std::size_t i = 0; i < arrays_.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      if (arrays_[i].name() == arrays_[j].name())
        throw Error(ErrorKind::DataMismatch, "two arrays are named " + arrays_[i].name() +
                                                 ": one from " + arrays_[j].source() +
                                                 ", one from " + arrays_[i].source() +
                                                 "; give the files names, as in x=FILE, y=FILE");
  if (!options.select.empty()) arrays_ = select(options.select).arrays_;

  if (options.first != 0 || options.last >= 0) {
    const int64_t rows = samples(), last = options.last < 0 ? rows : options.last;
    if (options.first < 0 || options.first >= last || last > rows)
      throw Error(ErrorKind::Option, "samples: " + std::to_string(options.first) + " to " +
                                         std::to_string(last) + " were asked for; the data have " +
                                         std::to_string(rows));
    for (Array& array : arrays_) array = array.slice(options.first, last);
  }

  for (const auto& [name, normalize] : options.normalize) {
    if (!name.empty() && find(name) == nullptr)
      throw Error(ErrorKind::Option, "normalize: there is no array " + name +
                                         " in the data, only " + namesOf(arrays_));
    for (Array& array : arrays_)
      if (name.empty() ? array.name() != target_ : array.name() == name)
        array = array.normalized(normalize);
  }
}

DataSet DataSet::open(const std::vector<DataSource>& sources, std::vector<Array> arrays,
                      DataOptions options) {
  if (sources.empty() && arrays.empty())
    throw Error(ErrorKind::Option, "data: expected at least one file or array, got none");
  std::vector<Array> all;
  std::vector<Skipped> skipped;
  std::vector<std::string> columns;
  for (const DataSource& source : sources) {
    ReadOptions read = options.read;
    read.whole = !source.name.empty();
    read.targetName = options.target;
    Contents contents = readArrays(source.path, read);
    if (source.name.empty()) {
      for (Array& array : contents.arrays) all.push_back(std::move(array));
      for (Skipped& entry : contents.skipped) skipped.push_back(std::move(entry));
      columns.insert(columns.end(), contents.columns.begin(), contents.columns.end());
    } else {
      all.push_back(only(source, contents).renamed(source.name));
    }
  }
  for (Array& array : arrays) all.push_back(std::move(array));
  return DataSet(std::move(all), std::move(options), std::move(skipped), std::move(columns));
}

const Array* DataSet::find(const std::string& name) const {
  for (const Array& array : arrays_)
    if (array.name() == name) return &array;
  return nullptr;
}

DataSet DataSet::select(const std::vector<std::string>& names) const {
  DataSet chosen = *this;
  chosen.arrays_.clear();
  for (const std::string& name : names) {
    const Array* array = find(name);
    if (array == nullptr)
      throw Error(ErrorKind::DataMismatch,
                  "there is no array " + name + " in the data; they have " + describe());
    if (chosen.find(name) == nullptr) chosen.arrays_.push_back(*array);
  }
  return chosen;
}

int64_t DataSet::samples() const {
  if (arrays_.empty()) throw Error(ErrorKind::DataMismatch, "the data have no array");
  for (const Array& array : arrays_)
    if (array.rank() == 0) array.fail("expected one row a sample, got a scalar");
  const bool differ = std::any_of(arrays_.begin(), arrays_.end(), [&](const Array& array) {
    return array.rows() != arrays_[0].rows();
  });
  if (differ)
    throw Error(
        ErrorKind::DataMismatch,
        "expected as many samples (rows of the first axis) in every array, got " + describe());
  if (arrays_[0].rows() == 0) arrays_[0].fail("the data are empty: 0 samples");
  return arrays_[0].rows();
}

int64_t DataSet::heldBytes() const {
  std::set<const Storage*> storages;
  for (const Array& array : arrays_) storages.insert(&array.storage());
  int64_t bytes = 0;
  for (const Storage* storage : storages) bytes += storage->heldBytes();
  return bytes;
}

std::optional<Array> DataSet::column(const std::string& name) const {
  const auto named = std::find(columns_.begin(), columns_.end(), name);
  const Array* table = find("x");
  if (named == columns_.end() || table == nullptr ||
      table->rowSize() != static_cast<int64_t>(columns_.size()))
    return std::nullopt;
  const int64_t rows = table->rows(), width = table->rowSize();
  const int64_t column = named - columns_.begin();
  auto block = std::make_shared<HeapBlock>(static_cast<std::size_t>(rows) * sizeof(double), name);
  double* out = reinterpret_cast<double*>(block->data());
  std::vector<double> row(static_cast<std::size_t>(width));
  for (int64_t i = 0; i < rows; ++i) {
    convertRows(*table, i, i + 1, row.data());
    out[i] = row[static_cast<std::size_t>(column)];
  }
  std::span<const std::byte> span(block->data(), block->size());
  return Array(name, ElementType::F64, {rows}, {table->source(), std::move(block), span});
}

std::string DataSet::describe() const {
  std::string text;
  for (const Array& array : arrays_) text += (text.empty() ? "" : ", ") + array.describe();
  if (text.empty()) text = "no array";
  constexpr std::size_t kShown = 20;
  for (std::size_t i = 0; i < columns_.size() && i <= kShown; ++i)
    text += (i == 0 ? " (columns of x: " : ", ") + (i < kShown ? columns_[i] : "...");
  if (!columns_.empty()) text += ")";
  for (const Skipped& entry : skipped_)
    text += "; " + entry.name + " was left out: " + entry.reason;
  return text;
}

}  // namespace eigenscope
