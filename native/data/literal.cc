#include "data/literal.h"

#include <algorithm>
#include <charconv>

namespace eigenscope {

const Literal* Literal::find(std::string_view key) const {
  for (const auto& [name, value] : fields)
    if (name == key) return &value;
  return nullptr;
}

bool Literal::integers(std::vector<int64_t>& out) const {
  if (kind != Kind::List) return false;
  out.clear();
  for (const Literal& item : items) {
    if (item.kind != Kind::Integer) return false;
    out.push_back(item.integer);
  }
  return true;
}

namespace {

constexpr int kMaxDepth = 16;

class Parser {
 public:
  Parser(std::string_view text, const Bytes& where) : text_(text), where_(where) {}

  Literal all() {
    Literal value = parse(0);
    skipSpace();
    if (at_ != text_.size()) fail("nothing more");
    return value;
  }

 private:
  [[noreturn]] void fail(const std::string& expected) const {
    std::string got = "the end";
    if (at_ < text_.size()) {
      const unsigned char c = static_cast<unsigned char>(text_[at_]);
      got = c >= 0x20 && c < 0x7f ? "'" + std::string(1, text_[at_]) + "'"
                                  : "byte " + std::to_string(c);
    }
    where_.fail("malformed header: expected " + expected + " at character " + std::to_string(at_) +
                ", got " + got);
  }

  void skipSpace() {
    while (at_ < text_.size() &&
           (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r'))
      ++at_;
  }

  char peek() {
    skipSpace();
    return at_ < text_.size() ? text_[at_] : '\0';
  }

  bool take(char c) {
    if (peek() != c || at_ == text_.size()) return false;
    ++at_;
    return true;
  }

  bool takeWord(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  Literal parse(int depth) {
    if (depth > kMaxDepth) fail("at most " + std::to_string(kMaxDepth) + " levels of nesting");
    Literal value;
    const char c = peek();
    if (c == '"' || c == '\'') {
      value.kind = Literal::Kind::Text;
      value.text = parseText();
    } else if (c == '{') {
      parseDict(value, depth);
    } else if (c == '[' || c == '(') {
      parseList(value, depth, c == '[' ? ']' : ')');
    } else if (c == '-' || (c >= '0' && c <= '9')) {
      parseInteger(value);
    } else {
      parseWord(value);
    }
    return value;
  }

  void parseWord(Literal& value) {
    struct Word {
      const char* text;
      Literal::Kind kind;
      bool flag;
    };
    static constexpr Word kWords[] = {
        {"True", Literal::Kind::Bool, true},   {"true", Literal::Kind::Bool, true},
        {"False", Literal::Kind::Bool, false}, {"false", Literal::Kind::Bool, false},
        {"None", Literal::Kind::Null, false},  {"null", Literal::Kind::Null, false},
    };
    for (const Word& word : kWords)
      if (takeWord(word.text)) {
        value.kind = word.kind;
        value.flag = word.flag;
        return;
      }
    fail("a value");
  }

  void parseInteger(Literal& value) {
    const char* end = text_.data() + text_.size();
    auto [stop, error] = std::from_chars(text_.data() + at_, end, value.integer);
    if (error != std::errc()) fail("an integer of 64 bits");
    at_ = static_cast<std::size_t>(stop - text_.data());
    value.kind = Literal::Kind::Integer;
    takeWord("L");  // Python 2 wrote 10L
  }

  void parseList(Literal& value, int depth, char close) {
    ++at_;
    value.kind = Literal::Kind::List;
    while (!take(close)) {
      value.items.push_back(parse(depth + 1));
      if (!take(',') && peek() != close) fail(std::string("',' or '") + close + "'");
    }
  }

  void parseDict(Literal& value, int depth) {
    ++at_;
    value.kind = Literal::Kind::Dict;
    while (!take('}')) {
      const char c = peek();
      if (c != '"' && c != '\'') fail("a name in quotes");
      std::string key = parseText();
      if (!take(':')) fail("':'");
      value.fields.emplace_back(std::move(key), parse(depth + 1));
      if (!take(',') && peek() != '}') fail("',' or '}'");
    }
    std::vector<std::string_view> keys;
    for (const auto& field : value.fields) keys.push_back(field.first);
    std::sort(keys.begin(), keys.end());
    auto twice = std::adjacent_find(keys.begin(), keys.end());
    if (twice != keys.end())
      where_.fail("malformed header: the name \"" + std::string(*twice) + "\" occurs twice");
  }

  std::string parseText() {
    const char quote = text_[at_++];
    std::string out;
    for (;;) {
      if (at_ == text_.size()) fail("the end of a quoted text");
      const char c = text_[at_];
      if (static_cast<unsigned char>(c) < 0x20) fail("a quoted text without control characters");
      ++at_;
      if (c == quote) return out;
      if (c == '\\')
        parseEscape(out);
      else
        out += c;
    }
  }

  void parseEscape(std::string& out) {
    static constexpr std::string_view kCodes = "\"'\\/bfnrt", kMeanings = "\"'\\/\b\f\n\r\t";
    if (at_ == text_.size()) fail("an escaped character");
    const std::size_t known = kCodes.find(text_[at_]);
    if (known != std::string_view::npos) {
      out += kMeanings[known];
      ++at_;
      return;
    }
    if (text_[at_] != 'u') fail("an escaped character");
    ++at_;
    uint32_t code = parseHex();
    if (code >= 0xd800 && code < 0xdc00) {
      if (!takeWord("\\u")) fail("the second half of a surrogate pair");
      const uint32_t low = parseHex();
      if (low < 0xdc00 || low > 0xdfff) fail("the second half of a surrogate pair");
      code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    } else if (code >= 0xdc00 && code < 0xe000) {
      fail("the first half of a surrogate pair");
    }
    appendUtf8(out, code);
  }

  uint32_t parseHex() {
    uint32_t code = 0;
    if (text_.size() - at_ < 4) fail("four hexadecimal digits");
    const char* begin = text_.data() + at_;
    auto [stop, error] = std::from_chars(begin, begin + 4, code, 16);
    if (error != std::errc() || stop != begin + 4) fail("four hexadecimal digits");
    at_ += 4;
    return code;
  }

  static void appendUtf8(std::string& out, uint32_t code) {
    const auto tail = [&](int shift) { out += static_cast<char>(0x80 | ((code >> shift) & 0x3f)); };
    if (code < 0x80) {
      out += static_cast<char>(code);
    } else if (code < 0x800) {
      out += static_cast<char>(0xc0 | (code >> 6));
      tail(0);
    } else if (code < 0x10000) {
      out += static_cast<char>(0xe0 | (code >> 12));
      tail(6), tail(0);
    } else {
      out += static_cast<char>(0xf0 | (code >> 18));
      tail(12), tail(6), tail(0);
    }
  }

  std::string_view text_;
  const Bytes& where_;
  std::size_t at_ = 0;
};

}  // namespace

Literal parseLiteral(std::string_view text, const Bytes& where) {
  return Parser(text, where).all();
}

}  // namespace eigenscope
