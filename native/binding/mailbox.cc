#include "binding/mailbox.h"

#include <dlfcn.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

#include "binding/common.h"

namespace eigenscope::binding {

namespace {

// Calls under way in the whole process, for its exit. Never destroyed: threads may outlive main.
struct Running {
  std::mutex mutex;
  std::condition_variable changed;
  uint64_t next = 1;
  bool ending = false;
  std::unordered_map<uint64_t, std::function<void()>> cancels;

  // 0 when the process is ending.
  uint64_t add(std::function<void()> cancel) {
    std::lock_guard lock(mutex);
    if (ending) return 0;
    cancels.emplace(next, std::move(cancel));
    return next++;
  }
  void remove(uint64_t id) {
    decltype(cancels)::node_type last;  // what it owns is destroyed without the lock
    std::lock_guard lock(mutex);
    last = cancels.extract(id);
    changed.notify_all();
  }
};
Running& running() {
  static Running* const instance = new Running();
  return *instance;
}

}  // namespace

void keepLoaded() {
  static const bool once = [] {
    Dl_info self;
    if (dladdr(reinterpret_cast<void*>(&keepLoaded), &self) != 0 && self.dli_fname != nullptr)
      dlopen(self.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
    return true;
  }();
  (void)once;
}

void stopBeforeExit() {
  Running& all = running();
  std::unique_lock lock(all.mutex);
  all.ending = true;
  for (auto& [id, cancel] : all.cancels) cancel();
  const auto done = [&] { return all.cancels.empty(); };
  if (all.changed.wait_for(lock, std::chrono::milliseconds(50), done)) return;
#ifdef __GLIBC__
  // Registered last, so it runs before anything is destroyed.
  on_exit(
      [](int status, void*) {
        std::fflush(nullptr);
        _exit(status);
      },
      nullptr);
#else
  all.changed.wait(lock, done);
#endif
}

Held::~Held() {
  if (auto mailbox = mailbox_.lock())
    mailbox->post([weak = mailbox_, id = id_](Napi::Env) {
      if (auto target = weak.lock()) target->release(id);
    });
}

Napi::Value Held::value() const {
  auto mailbox = mailbox_.lock();
  if (!mailbox) return Napi::Value();
  auto entry = mailbox->held_.find(id_);
  return entry == mailbox->held_.end() ? Napi::Value() : entry->second.Value();
}

std::shared_ptr<Mailbox> Mailbox::of(Napi::Env env) {
  Instance& instance = instanceOf(env);
  if (!instance.mailbox) {
    instance.mailbox = std::shared_ptr<Mailbox>(new Mailbox(env));
    instance.mailbox->open();
  }
  return instance.mailbox;
}

void Mailbox::open() {
  Napi::Env env(env_);
  auto* self = new std::shared_ptr<Mailbox>(shared_from_this());
  // The function only wakes the thread; letters travel in our own queue, which knows when the
  // environment has ended.
  auto onWake = [](napi_env env, napi_value, void* context, void*) {
    if (env != nullptr) static_cast<Mailbox*>(context)->drain(Napi::Env(env));
  };
  auto onFinal = [](napi_env, void* data, void*) {
    auto* mailbox = static_cast<std::shared_ptr<Mailbox>*>(data);
    {
      std::lock_guard lock((*mailbox)->mutex_);
      (*mailbox)->closed_ = true;
    }
    delete mailbox;
  };
  Napi::HandleScope scope(env);
  napi_status status =
      napi_create_threadsafe_function(env, nullptr, nullptr, Napi::String::New(env, "eigenscope"),
                                      0, 1, self, onFinal, this, onWake, &wake_);
  if (status == napi_ok) status = napi_unref_threadsafe_function(env, wake_);
  if (status != napi_ok) {
    if (wake_ == nullptr) delete self;
    throw Error(ErrorKind::Internal, "Node gave no way to call back from other threads");
  }
  // After the function above, so that it runs before the function's own end.
  env.AddCleanupHook([weak = weak_from_this()] {
    if (auto mailbox = weak.lock()) mailbox->close();
  });
}

void Mailbox::close() {
  std::deque<Letter> dropped;
  std::vector<std::function<void()>> cancels;
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
    dropped.swap(letters_);
    for (auto& [id, cancel] : threads_) cancels.push_back(cancel);
  }
  for (auto& cancel : cancels) cancel();
  {
    std::unique_lock lock(mutex_);
    ended_.wait(lock, [&] { return threads_.empty(); });
  }
  dropped.clear();
  held_.clear();
}

bool Mailbox::post(Letter letter) {
  std::lock_guard lock(mutex_);
  if (closed_) return false;
  letters_.push_back(std::move(letter));
  if (!woken_ && napi_call_threadsafe_function(wake_, nullptr, napi_tsfn_nonblocking) == napi_ok)
    woken_ = true;
  return true;
}

void Mailbox::drain(Napi::Env env) {
  std::deque<Letter> letters;
  {
    std::lock_guard lock(mutex_);
    woken_ = false;
    letters.swap(letters_);
  }
  for (Letter& letter : letters) {
    Napi::HandleScope scope(env);
    try {
      letter(env);
    } catch (const Napi::Error& error) {
      napi_fatal_exception(env, error.Value());
    }
    letter = nullptr;  // what it holds ends inside the scope
  }
}

HeldPtr Mailbox::hold(Napi::Value value) {
  const uint64_t id = nextHeld_++;
  held_.emplace(id, Napi::Reference<Napi::Value>::New(value, 1));
  return std::make_shared<const Held>(weak_from_this(), id);
}

void Mailbox::release(uint64_t id) { held_.erase(id); }

void Mailbox::enter() {
  if (entered_++ == 0) napi_ref_threadsafe_function(env_, wake_);
}

void Mailbox::leave() {
  if (--entered_ == 0) napi_unref_threadsafe_function(env_, wake_);
}

uint64_t Mailbox::begin(std::function<void()> cancel) {
  const uint64_t id = running().add(cancel);
  if (id == 0) return 0;
  std::lock_guard lock(mutex_);
  if (closed_) {
    running().remove(id);
    return 0;
  }
  threads_.emplace(id, std::move(cancel));
  return id;
}

void Mailbox::end(uint64_t id) {
  {
    // What it owns may post when it is destroyed, so that must come after the lock.
    decltype(threads_)::node_type last;
    std::lock_guard lock(mutex_);
    last = threads_.extract(id);
    ended_.notify_all();
  }
  running().remove(id);
}

}  // namespace eigenscope::binding
