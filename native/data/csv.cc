// Tables of numbers as text: one sample a line, separated by commas, tabs, semicolons or spaces
// (whichever the first line has), optionally with a line of column names, with quotes around
// fields, and with lines that begin with #, which are skipped. Values are float64.
#include <algorithm>
#include <charconv>

#include "data/formats.h"

namespace eigenscope {

namespace {

bool isSpace(char c) { return c == ' ' || c == '\t' || c == '\r'; }

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && isSpace(text.front())) text.remove_prefix(1);
  while (!text.empty() && isSpace(text.back())) text.remove_suffix(1);
  return text;
}

// The fields of a line, one after the other, without the quotes and the space around them.
class Fields {
 public:
  Fields(std::string_view line, char separator) : rest_(line), separator_(separator) {}

  bool next(std::string_view& field) {
    if (done_) return false;
    const std::size_t stop = rest_.find(separator_, endOfQuotes());
    field = trimmed(rest_.substr(0, stop));
    if (field.size() >= 2 && field.front() == '"' && field.back() == '"')
      field = field.substr(1, field.size() - 2);
    done_ = stop == std::string_view::npos;
    if (done_) return true;
    rest_.remove_prefix(stop + 1);
    // A run of spaces separates once.
    if (separator_ == ' ') rest_ = trimmed(rest_);
    return true;
  }

  bool done() const { return done_; }

 private:
  // Where to look for the separator: behind a quoted field, in which "" stands for a quote.
  std::size_t endOfQuotes() const {
    const std::size_t start = rest_.find_first_not_of(' ');
    if (start == std::string_view::npos || rest_[start] != '"') return 0;
    std::size_t at = start + 1;
    while ((at = rest_.find('"', at)) != std::string_view::npos) {
      if (at + 1 == rest_.size() || rest_[at + 1] != '"') return at + 1;
      at += 2;
    }
    return 0;
  }

  std::string_view rest_;
  char separator_;
  bool done_ = false;
};

// The lines that count: neither empty nor a comment.
class Lines {
 public:
  explicit Lines(std::string_view text) : text_(text) {
    if (text_.starts_with("\xef\xbb\xbf")) text_.remove_prefix(3);
  }

  bool next(std::string_view& line) {
    while (!text_.empty()) {
      const std::size_t stop = text_.find('\n');
      line = text_.substr(0, stop);
      // Not tabs: at the ends they are fields without a value.
      while (line.starts_with(' ')) line.remove_prefix(1);
      while (line.ends_with(' ') || line.ends_with('\r')) line.remove_suffix(1);
      text_.remove_prefix(stop == std::string_view::npos ? text_.size() : stop + 1);
      ++number_;
      if (!line.empty() && line[0] != '#') return true;
    }
    return false;
  }

  int64_t number() const { return number_; }

 private:
  std::string_view text_;
  int64_t number_ = 0;
};

struct Values : Storage {
  explicit Values(std::vector<double>&& values) : values(std::move(values)) {}
  int64_t heldBytes() const override {
    return static_cast<int64_t>(values.capacity() * sizeof(double));
  }
  const std::vector<double> values;
};

bool parseNumber(std::string_view field, double& value) {
  if (field.size() > 1 && field[0] == '+' && field[1] != '-') field.remove_prefix(1);
  const char* end = field.data() + field.size();
  const auto [stop, error] = std::from_chars(field.data(), end, value);
  return error == std::errc() && stop == end;
}

char separatorOf(std::string_view line) {
  for (char candidate : {',', '\t', ';', ' '}) {
    Fields fields(line, candidate);
    std::string_view first;
    fields.next(first);
    if (!fields.done()) return candidate;
  }
  return ',';
}

class Table {
 public:
  Table(const Bytes& bytes, const ReadOptions& options) : bytes_(bytes) {
    const std::string_view text = textAt(bytes, 0, bytes.size());
    Lines lines(text);
    std::string_view line;
    if (!lines.next(line)) bytes.fail("expected lines of numbers, found none");
    separator_ = separatorOf(line);
    bool more = true;
    if (beginsWithNames(line, options.header)) {
      readNames(line);
      more = lines.next(line);
      if (!more) bytes.fail("expected lines of numbers below the column names, found none");
    }
    // Never more fields than this, so memory is reserved once.
    const std::size_t most = text.size() / 2 + 1;
    const std::size_t estimate =
        columns_ * static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n') + 1);
    values_.reserve(std::min(most, estimate));
    for (; more; more = lines.next(line), ++rows_) readRow(line, lines.number());
  }

  Array whole(const std::string& name) {
    return arrayOf(name, std::move(values_), columns_, columns_ == 1);
  }

  // Splits off the target columns; x keeps the rest in order.
  void split(const ReadOptions& options, Contents& contents) {
    const std::vector<std::size_t> targets = targetsOf(options);
    std::vector<double> y;
    y.reserve(targets.size() * rows_);
    std::vector<bool> isTarget(columns_, false);
    for (std::size_t column : targets) isTarget[column] = true;
    std::size_t kept = 0;
    for (std::size_t row = 0; row < rows_; ++row) {
      const double* from = values_.data() + row * columns_;
      for (std::size_t column : targets) y.push_back(from[column]);
      for (std::size_t column = 0; column < columns_; ++column)
        if (!isTarget[column]) values_[kept++] = from[column];
    }
    values_.resize(kept);
    if (targets.size() < columns_)
      contents.arrays.push_back(arrayOf("x", std::move(values_), columns_ - targets.size(), false));
    if (!targets.empty())
      contents.arrays.push_back(
          arrayOf(options.targetName, std::move(y), targets.size(), targets.size() == 1));
    for (std::size_t column = 0; column < names_.size(); ++column)
      if (!isTarget[column]) contents.columns.push_back(names_[column]);
  }

 private:
  // Counts the columns on the way. Names may be positions, as pandas gives by default, but a line
  // that could be either is not guessed at.
  bool beginsWithNames(std::string_view line, std::optional<bool> told) {
    std::size_t numbers = 0, positions = 0;
    std::string_view field;
    double value;
    for (Fields fields(line, separator_); fields.next(field); ++columns_) {
      numbers += parseNumber(field, value);
      positions += field == std::to_string(columns_);
    }
    if (told) return *told;
    const bool counts = positions == columns_ && columns_ > 2;
    if (counts || (numbers < columns_ && numbers != positions))
      bytes_.fail(
          "cannot tell whether the first line names the columns or is a sample; say so "
          "with the option header (true or false)");
    return numbers < columns_;
  }

  void readNames(std::string_view line) {
    std::string_view field;
    for (Fields fields(line, separator_); fields.next(field);) {
      if (field.empty())
        bytes_.fail("column " + std::to_string(names_.size()) +
                    " has no name; if it is an index, write the table without it (pandas: "
                    "index=False)");
      if (std::find(names_.begin(), names_.end(), field) != names_.end())
        bytes_.fail("two columns are named " + std::string(field));
      names_.emplace_back(field);
    }
  }

  void readRow(std::string_view line, int64_t number) {
    std::string_view field;
    std::size_t column = 0;
    for (Fields fields(line, separator_); fields.next(field); ++column) {
      double value;
      if (column < columns_ && !parseNumber(field, value))
        bytes_.fail("line " + std::to_string(number) + ", column " + nameOf(column) +
                    ": expected a number, got " +
                    (field.empty() ? "nothing" : "\"" + std::string(field.substr(0, 40)) + "\""));
      if (column < columns_) values_.push_back(value);
    }
    if (column != columns_)
      bytes_.fail("line " + std::to_string(number) + ": expected " + std::to_string(columns_) +
                  " columns as in the first line, got " + std::to_string(column));
  }

  std::string nameOf(std::size_t column) const {
    return column < names_.size() ? names_[column] : std::to_string(column);
  }

  std::vector<std::size_t> targetsOf(const ReadOptions& options) const {
    std::vector<std::size_t> targets;
    if (options.targets.empty()) {
      const auto y = std::find(names_.begin(), names_.end(), options.targetName);
      if (y != names_.end()) targets.push_back(static_cast<std::size_t>(y - names_.begin()));
      return targets;
    }
    for (const std::string& wanted : options.targets) {
      const std::size_t column = columnOf(wanted);
      if (std::find(targets.begin(), targets.end(), column) != targets.end())
        throw Error(ErrorKind::Option, "target: the column " + wanted + " is given twice");
      targets.push_back(column);
    }
    return targets;
  }

  std::size_t columnOf(const std::string& wanted) const {
    const auto named = std::find(names_.begin(), names_.end(), wanted);
    if (named != names_.end()) return static_cast<std::size_t>(named - names_.begin());
    int64_t position = 0;
    const char* end = wanted.data() + wanted.size();
    const auto [stop, error] = std::from_chars(wanted.data(), end, position);
    const int64_t columns = static_cast<int64_t>(columns_);
    if (error == std::errc() && stop == end && position >= -columns && position < columns)
      return static_cast<std::size_t>(position < 0 ? position + columns : position);
    std::string have = names_.empty() ? std::to_string(columns_) + " columns without names" : "";
    for (std::size_t i = 0; i < names_.size() && i < 20; ++i) have += (i ? ", " : "") + names_[i];
    if (names_.size() > 20) have += ", ...";
    throw Error(ErrorKind::Option,
                "target: " + bytes_.label + " has no column " + wanted + "; it has " + have);
  }

  Array arrayOf(const std::string& name, std::vector<double>&& values, std::size_t columns,
                bool flat) {
    auto owner = std::make_shared<Values>(std::move(values));
    const std::span<const std::byte> span = std::as_bytes(std::span(owner->values));
    Shape shape{static_cast<int64_t>(rows_)};
    if (!flat) shape.push_back(static_cast<int64_t>(columns));
    return Array(name, ElementType::F64, std::move(shape), {bytes_.label, std::move(owner), span});
  }

  const Bytes& bytes_;
  char separator_ = ',';
  std::size_t columns_ = 0, rows_ = 0;
  std::vector<std::string> names_;
  std::vector<double> values_;
};

}  // namespace

void readCsv(const std::string& name, const Bytes& bytes, const ReadOptions& options,
             Contents& contents) {
  Table table(bytes, options);
  if (options.whole)
    contents.arrays.push_back(table.whole(name));
  else
    table.split(options, contents);
}

}  // namespace eigenscope
