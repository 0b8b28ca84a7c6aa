#pragma once

#include <napi.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>

namespace eigenscope::binding {

class Mailbox;

// A JavaScript value kept alive from any thread; the value itself is seen on its own thread only.
class Held {
 public:
  Held(std::weak_ptr<Mailbox> mailbox, uint64_t id) : mailbox_(std::move(mailbox)), id_(id) {}
  ~Held();
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;

  // Only on the JavaScript thread, while its environment lives.
  Napi::Value value() const;

 private:
  std::weak_ptr<Mailbox> mailbox_;
  uint64_t id_;
};
using HeldPtr = std::shared_ptr<const Held>;

// The way from computing threads to one JavaScript thread, and the list of what they owe it. There
// is one per environment (the main thread, each worker). When the environment ends, in the middle
// of a call or not, every call is cancelled and its thread waited for, since threads read buffers
// that belong to the environment.
class Mailbox : public std::enable_shared_from_this<Mailbox> {
 public:
  using Letter = std::function<void(Napi::Env)>;

  // On the JavaScript thread; made on first use.
  static std::shared_ptr<Mailbox> of(Napi::Env env);

  // From any thread: `letter` runs on the JavaScript thread, in the order of posting. False once
  // the environment ends; the letter is then dropped.
  bool post(Letter letter);

  // On the JavaScript thread: keeps an object alive for the life of the result.
  HeldPtr hold(Napi::Value value);

  // On the JavaScript thread, in pairs: Node stays alive while a call is under way.
  void enter();
  void leave();

  // From any thread. A thread that runs between `begin` and `end` is waited for; `cancel` is called
  // when the environment ends. `begin` gives 0 when it already has ended.
  uint64_t begin(std::function<void()> cancel);
  void end(uint64_t id);

 private:
  friend class Held;

  explicit Mailbox(Napi::Env env) : env_(env) {}
  void open();
  void close();
  void drain(Napi::Env env);
  void release(uint64_t id);

  const napi_env env_;
  napi_threadsafe_function wake_ = nullptr;
  int64_t entered_ = 0;  // JavaScript thread only, like held_
  uint64_t nextHeld_ = 1;
  std::unordered_map<uint64_t, Napi::Reference<Napi::Value>> held_;

  std::mutex mutex_;
  std::condition_variable ended_;
  bool closed_ = false;
  bool woken_ = false;
  std::deque<Letter> letters_;
  std::unordered_map<uint64_t, std::function<void()>> threads_;
};

// Called when the addon is loaded: a worker that ends unloads the addons it loaded, but threads of
// the core stay, so its code must.
void keepLoaded();

// Called before process.exit() and its like destroy the state of C and C++ libraries, under threads
// that use it: tells every call to stop. Where one does not within a moment, the process ends with
// its status but without that destruction.
void stopBeforeExit();

}  // namespace eigenscope::binding
