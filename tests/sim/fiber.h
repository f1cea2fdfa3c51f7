// Operations as fibers: ordinary blocking code that gives way at chosen points, so that one thread can
// interleave the operations of many simulated processes, step by step and always alike.
//
// A fiber runs until it ends or suspends itself; whoever resumed it goes on then. Cancelling one unwinds its
// stack by an exception of a private type, which nobody but the fiber's root may catch: this is how the
// operations of a process end when it crashes. Fibers belong to the thread that made them.
#pragma once

#include <ucontext.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/any_invocable.h"

namespace lockstep::sim {

class FiberPool;

class Fiber {
 public:
  // The one that runs now; null outside.
  static Fiber* Current();
  // From within a fiber: goes back to whoever resumed it. Does not return when the fiber is cancelled
  // meanwhile.
  static void Suspend();

  // From outside any fiber: goes on until it ends or suspends itself.
  void Resume();
  // Unwinds it. From outside any fiber.
  void Cancel();
  bool done() const { return done_; }
  // Of what it does: another one each time that it is taken from the pool, in that order.
  uint64_t id() const { return id_; }

 private:
  friend class FiberPool;
  struct Cancelled {};
  static constexpr size_t kStackBytes = 128 * 1024;

  Fiber() : stack_(new char[kStackBytes]) {}
  static void Main();
  void Prepare(absl::AnyInvocable<void()> body);

  const std::unique_ptr<char[]> stack_;
  ucontext_t context_;
  ucontext_t back_;
  absl::AnyInvocable<void()> body_;
  uint64_t id_ = 0;
  bool cancelled_ = false;
  bool done_ = true;
};

// Keeps the stacks of ended fibers for the next ones.
class FiberPool {
 public:
  // Starts `body`, which must not let an exception out, at the first Resume.
  Fiber* New(absl::AnyInvocable<void()> body);
  // `fiber` is done.
  void Release(Fiber* fiber);

 private:
  std::vector<std::unique_ptr<Fiber>> all_;
  std::vector<Fiber*> free_;
  uint64_t next_id_ = 1;
};

}  // namespace lockstep::sim
