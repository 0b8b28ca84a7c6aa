#include "run/onednn.h"

namespace eigenscope::onednn {

class Conv {};

bool available() { return false; }
const std::string& version() {
  static const std::string text;
  return text;
}
const std::string& refusal() {
  static const std::string text = "this build was made without the oneDNN 2 header";
  return text;
}
bool sgemm(bool, bool, int64_t, int64_t, int64_t, const float*, int64_t, const float*, int64_t,
           bool, float*, int64_t) {
  return false;
}
std::shared_ptr<const Conv> conv(ConvForm, const ConvShape&, bool) { return nullptr; }
bool sums(const Conv&) { return false; }
int64_t scratchBytes(const Conv&) { return 0; }
void prepare(const Conv&, const float*, void*) {}
void execute(const Conv&, const float*, const float*, float*, void*) {}

}  // namespace eigenscope::onednn
