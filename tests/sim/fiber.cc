#include "tests/sim/fiber.h"

#include <exception>
#include <utility>

#include "core/base/check.h"

namespace lockstep::sim {
namespace {

thread_local Fiber* current = nullptr;

}  // namespace

Fiber* Fiber::Current() { return current; }

void Fiber::Suspend() {
  Fiber* const self = current;
  LOCKSTEP_CHECK(self != nullptr, "only a fiber suspends itself");
  LOCKSTEP_CHECK(std::uncaught_exceptions() == 0, "a fiber that unwinds does not wait");
  current = nullptr;
  LOCKSTEP_CHECK(swapcontext(&self->context_, &self->back_) == 0, "swapcontext");
  if (self->cancelled_) throw Cancelled();
}

void Fiber::Resume() {
  LOCKSTEP_CHECK(current == nullptr && !done_, "a fiber is resumed from outside, until it is done");
  current = this;
  LOCKSTEP_CHECK(swapcontext(&back_, &context_) == 0, "swapcontext");
  current = nullptr;
}

void Fiber::Cancel() {
  if (done_) return;
  cancelled_ = true;
  Resume();
  LOCKSTEP_CHECK(done_, "a cancelled fiber ends");
}

void Fiber::Main() {
  Fiber* const self = current;
  try {
    if (!self->cancelled_) self->body_();
  } catch (const Cancelled&) {
  }
  self->body_ = nullptr;
  self->done_ = true;
  current = nullptr;
  setcontext(&self->back_);
}

void Fiber::Prepare(absl::AnyInvocable<void()> body) {
  LOCKSTEP_CHECK(getcontext(&context_) == 0, "getcontext");
  context_.uc_stack.ss_sp = stack_.get();
  context_.uc_stack.ss_size = kStackBytes;
  context_.uc_link = nullptr;
  makecontext(&context_, &Fiber::Main, 0);
  body_ = std::move(body);
  cancelled_ = done_ = false;
}

Fiber* FiberPool::New(absl::AnyInvocable<void()> body) {
  if (free_.empty()) {
    all_.emplace_back(new Fiber());
    free_.push_back(all_.back().get());
  }
  Fiber* const fiber = free_.back();
  free_.pop_back();
  fiber->Prepare(std::move(body));
  fiber->id_ = next_id_++;
  return fiber;
}

void FiberPool::Release(Fiber* fiber) {
  LOCKSTEP_CHECK(fiber->done(), "a fiber is released when it is done");
  free_.push_back(fiber);
}

}  // namespace lockstep::sim
