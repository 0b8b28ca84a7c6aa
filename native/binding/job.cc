#include "binding/job.h"

#include <chrono>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "binding/common.h"

namespace eigenscope::binding {

namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kBetweenReports = std::chrono::milliseconds(100);

// Shared by the computing thread, its letters and `cancel`. Nothing in it needs the JavaScript
// thread to be destroyed.
struct Job {
  explicit Job(Napi::Env env) : deferred(Napi::Promise::Deferred::New(env)) {}

  Task task;
  std::function<void(Task&)> work;
  std::function<Napi::Value(Napi::Env)> result;
  std::function<void(Napi::Env)> after;
  std::vector<HeldPtr> holds;
  HeldPtr onProgress;
  std::exception_ptr error;

  Napi::Promise::Deferred deferred;  // JavaScript thread only, like the next
  bool entered = true;

  std::mutex mutex;  // of the next two
  Progress latest;
  bool announced = false;
  Clock::time_point lastReport{};  // computing thread only
};
using JobPtr = std::shared_ptr<Job>;

void leaveOnce(Mailbox& mailbox, Job& job) {
  if (job.entered) mailbox.leave();
  job.entered = false;
}

void announce(const JobPtr& job, const std::weak_ptr<Mailbox>& weak, const Progress& progress) {
  const Clock::time_point now = Clock::now();
  if (job->lastReport != Clock::time_point{} && now - job->lastReport < kBetweenReports) return;
  job->lastReport = now;
  {
    std::lock_guard lock(job->mutex);
    job->latest = progress;
    if (std::exchange(job->announced, true)) return;
  }
  auto mailbox = weak.lock();
  if (!mailbox) return;
  mailbox->post([job](Napi::Env env) {
    Progress progress;
    {
      std::lock_guard lock(job->mutex);
      progress = job->latest;
      job->announced = false;
    }
    if (job->task.cancelled.load()) return;
    Napi::Object report = Napi::Object::New(env);
    report.Set("products", static_cast<double>(progress.products));
    report.Set("residual", progress.residual);
    report.Set("fraction", progress.fraction);
    job->onProgress->value().As<Napi::Function>().Call({report});
  });
}

Napi::Value errorValue(Napi::Env env, std::exception_ptr error) {
  try {
    std::rethrow_exception(error);
  } catch (const ScriptError& script) {
    Napi::Value value = script.value->value();
    if (!value.IsEmpty()) return value;
  } catch (...) {
  }
  return errorOf(env, error).Value();
}

void settle(Napi::Env env, Job& job) {
  if (job.error) {
    job.deferred.Reject(errorValue(env, job.error));
    return;
  }
  try {
    job.deferred.Resolve(job.result(env));
  } catch (...) {
    job.deferred.Reject(errorOf(env, std::current_exception()).Value());
  }
}

void run(const JobPtr& job) {
  try {
    job->task.check();
    job->work(job->task);
  } catch (...) {
    job->error = std::current_exception();
  }
  // What only the work needed goes away here rather than on the JavaScript thread.
  job->work = nullptr;
  job->task.report = nullptr;
}

}  // namespace

Napi::Object start(Napi::Env env, Call call, Napi::Value onProgress) {
  std::shared_ptr<Mailbox> mailbox = Mailbox::of(env);
  auto job = std::make_shared<Job>(env);
  job->work = std::move(call.work);
  job->result = std::move(call.result);
  job->after = std::move(call.after);
  for (Napi::Value value : call.holds) job->holds.push_back(mailbox->hold(value));
  if (!onProgress.IsEmpty() && onProgress.IsFunction()) {
    job->onProgress = mailbox->hold(onProgress);
    // Weak, as the job owns the function.
    job->task.report = [weak = std::weak_ptr<Job>(job),
                        to = std::weak_ptr<Mailbox>(mailbox)](const Progress& progress) {
      if (auto strong = weak.lock()) announce(strong, to, progress);
    };
  }

  const uint64_t id = mailbox->begin([job] { job->task.cancelled.store(true); });
  if (id == 0) throw Error(ErrorKind::Abort, "the environment is ending");
  try {
    std::thread([job, mailbox, id]() mutable {
      run(job);
      mailbox->post([job](Napi::Env env) {
        leaveOnce(*Mailbox::of(env), *job);
        if (job->after) job->after(env);
        settle(env, *job);
        job->result = nullptr;
        job->after = nullptr;
        job->holds.clear();
      });
      job.reset();
      mailbox->end(id);
    }).detach();
  } catch (const std::system_error& error) {
    mailbox->end(id);
    throw Error(ErrorKind::MemoryBudget,
                std::string("the system gave no thread for the call: ") + error.what());
  }
  mailbox->enter();

  Napi::Object handle = Napi::Object::New(env);
  handle.Set("promise", job->deferred.Promise());
  handle.Set("cancel", Napi::Function::New(
                           env,
                           [job](const Napi::CallbackInfo& info) {
                             job->task.cancelled.store(true);
                             leaveOnce(*Mailbox::of(info.Env()), *job);
                           },
                           "cancel"));
  return handle;
}

}  // namespace eigenscope::binding
