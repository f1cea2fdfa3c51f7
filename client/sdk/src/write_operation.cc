#include "lockstep/internal/write_operation.h"

#include <algorithm>
#include <stop_token>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/mutex.h"
#include "core/base/status_macros.h"
#include "lockstep/internal/held_writes.h"

namespace lockstep::internal {
namespace {

// Lets a caller wait for another thread.
class Signal {
 public:
  void Notify() {
    MutexLock lock(&mutex_);
    notified_ = true;
    changed_.SignalAll();
  }
  void Wait() {
    MutexLock lock(&mutex_);
    while (!notified_) changed_.Wait(&mutex_);
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool notified_ ABSL_GUARDED_BY(mutex_) = false;
};

// Ends the wait of a parked write when its call is given up, whether that comes before or after it is parked.
class StopWatch {
 public:
  StopWatch(HeldWrites* held, const std::stop_token& stop)
      : held_(held), callback_(stop, [this] { Stop(); }) {}

  void OnParked(uint64_t id) {
    {
      MutexLock lock(&mutex_);
      id_ = id;
      if (!stopped_) return;
    }
    held_->Expire(id);
  }

 private:
  void Stop() {
    uint64_t id = 0;
    {
      MutexLock lock(&mutex_);
      stopped_ = true;
      id = id_;
    }
    if (id != 0) held_->Expire(id);
  }

  HeldWrites* const held_;
  Mutex mutex_;
  uint64_t id_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::stop_callback<std::function<void()>> callback_;  // last: it may be called at once
};

}  // namespace

absl::Status WriteOperation::Run() {
  while (true) {
    if (std::optional<absl::Status> end = Attempt()) return *end;
    const auto signal = std::make_shared<Signal>();
    Park([signal] { signal->Notify(); });
    signal->Wait();
  }
}

void WriteOperation::RunAsync(std::shared_ptr<WriteOperation> operation) {
  const Client& client = operation->path_->client();
  if (const absl::Status status = client.CheckProcess(); !status.ok()) return operation->Done(status);
  Executor& executor = client.executor();
  executor.Submit(absl::ZeroDuration(), [operation = std::move(operation)] { Step(operation); });
}

void WriteOperation::Step(const std::shared_ptr<WriteOperation>& operation) {
  if (const std::optional<absl::Status> end = operation->Attempt()) return operation->Done(*end);
  operation->Park([operation] { RunAsync(operation); });
}

std::optional<absl::Status> WriteOperation::Attempt() {
  const Client& client = path_->client();
  if (options_.stop.stop_requested()) {
    return absl::CancelledError("the call was given up before anything was written");
  }
  const absl::StatusOr<RouteHandle> route =
      client.Route(path_->migration(), routing_key_, options_.attributes);
  if (!route.ok()) return route.status();
  const std::optional<WritePlan> plan = PlanWrite(route->decision().write_mode);
  if (!plan.has_value()) return Hold(*route);
  return WriteBoth(*route, *plan);
}

std::optional<absl::Status> WriteOperation::Hold(const RouteHandle& route) {
  const Clock& clock = path_->client().clock();
  if (!held_since_.has_value()) {
    held_since_ = clock.SinceBoot();
    hold_until_ = std::min(options_.deadline, clock.Now() + path_->options().max_hold_wait);
  }
  if (expired_ || clock.Now() >= hold_until_) {
    return HeldTooLong(route.migration(), clock.SinceBoot() - *held_since_);
  }
  held_by_epoch_ = route.epoch();
  return std::nullopt;
}

// `resume` may run, and this be destroyed, before Park returns: nothing of it is touched after HeldWrites has
// it.
void WriteOperation::Park(std::function<void()> resume) {
  Client& client = path_->client();
  HeldWrites& held = client.held_writes();
  std::shared_ptr<StopWatch> stop;
  if (options_.stop.stop_possible()) stop = std::make_shared<StopWatch>(&held, options_.stop);
  const uint64_t id = held.Park(
      held_by_epoch_, [&client, migration = path_->migration()] { return client.EpochInForce(migration); },
      hold_until_,
      [this, stop, resume = std::move(resume)](bool expired) {
        expired_ = expired;
        resume();
      });
  if (stop != nullptr) stop->OnParked(id);
}

absl::Status WriteOperation::WriteBoth(const RouteHandle& route, const WritePlan& plan) {
  Client& client = path_->client();
  if (!CanWrite(plan.authoritative) || (plan.mirror.has_value() && !CanMirror(*plan.mirror))) {
    return MissingWriteCallback(route.migration(), route.stage());
  }
  LOCKSTEP_RETURN_IF_ERROR(client.CheckMayWrite(route));
  const MirrorWrite write{.attribution = route.attribution(),
                          .store_epoch = route.store_epoch(),
                          .bucket = route.decision().bucket,
                          .routing_key = routing_key_,
                          .authoritative = plan.authoritative,
                          .idempotency_key = options_.idempotency_key.empty() ? client.NextIdempotencyKey()
                                                                              : options_.idempotency_key};
  OpenMirror open;
  if (plan.mirror.has_value() && path_->has_journal()) {
    LOCKSTEP_ASSIGN_OR_RETURN(open, path_->Begin(write, EncodedKey(), WritesBehind(route)));
  }
  // Asked again, because the disk may have taken its time.
  const absl::StatusOr<absl::Time> deadline = client.MayWriteUntil(options_.deadline, &route);
  if (!deadline.ok()) {
    path_->End(open);
    return deadline.status();
  }
  const WriteContext context{.epoch = route.epoch(),
                             .side = plan.authoritative,
                             .idempotency_key = write.idempotency_key,
                             .deadline = *deadline};
  const absl::StatusOr<Version> version = WriteAuthoritative(context);
  client.telemetry().RecordAuthoritativeWrite(route.attribution(), version.ok());
  if (version.ok()) {
    token_ = {
        .authoritative = plan.authoritative, .version = *version, .mirrored = false, .epoch = route.epoch()};
  }
  if (!plan.mirror.has_value()) return version.status();
  const bool unknown = !version.ok() && OutcomeUnknown(version.status());
  if (route.stage() >= domain::Stage::kCanaryRead && (version.ok() || unknown)) {
    path_->NoteForSliceCheck(write, EncodedKey(), MakeAccess(/*with_result=*/false));
  }
  if (version.ok()) return Mirror(route, write, open);
  // The write may have happened all the same. Only the side itself can tell; if it did, the mirror must
  // follow.
  if (unknown && HasCurrent(plan.authoritative)) {
    path_->Repair(open, write, MakeAccess(/*with_result=*/true));
  } else if (unknown) {
    path_->GiveUp(open, write);
  } else {
    path_->End(open);
  }
  return version.status();
}

bool WriteOperation::WritesBehind(const RouteHandle& route) const {
  return path_->options().mirror_mode == MirrorMode::kWriteBehind && MayWriteBehind(route.stage());
}

absl::Status WriteOperation::Mirror(const RouteHandle& route, const MirrorWrite& write,
                                    const OpenMirror& open) {
  if (options_.stop.stop_requested()) {
    path_->client().telemetry().RecordMirrorWrite(write.attribution, MirrorResult::kFailed);
    return Fail(route, write, open, absl::OkStatus(), /*stopped=*/true);
  }
  // Whose lease has ended is not waited for: the authority may move, and the mirror mint versions of its own.
  if (const absl::Status may_write = path_->client().CheckMayWrite(route); !may_write.ok()) {
    path_->client().telemetry().RecordMirrorWrite(write.attribution, MirrorResult::kShed);
    return Fail(route, write, open, absl::UnavailableError("not attempted: the lease has ended"),
                /*stopped=*/false);
  }
  if (WritesBehind(route) && path_->WriteBehind(open, write, MakeAccess(/*with_result=*/true))) {
    return absl::OkStatus();
  }
  const absl::Status status = path_->Attempt(
      &route, write, options_.deadline, [this](const WriteContext& context) { return WriteMirror(context); });
  if (!status.ok()) return Fail(route, write, open, status, /*stopped=*/false);
  path_->End(open);
  token_.mirrored = true;
  return status;
}

absl::Status WriteOperation::Fail(const RouteHandle& route, const MirrorWrite& write, const OpenMirror& open,
                                  const absl::Status& status, bool stopped) {
  const MirrorFailure failure{.migration = route.migration(),
                              .mirror = write.mirror(),
                              .version = token_.version,
                              .stage = route.stage(),
                              .policy = path_->options().mirror_failure};
  const bool queued = path_->Repair(open, write, MakeAccess(/*with_result=*/true));
  return stopped ? AfterStop(failure, queued) : AfterMirrorFailure(failure, status, queued);
}

}  // namespace lockstep::internal
