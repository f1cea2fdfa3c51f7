// The templates of migrator.h. Not included by anything else.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "lockstep/internal/write_plan.h"
#include "lockstep/migrator.h"

namespace lockstep {

template <typename Key, typename Record>
absl::StatusOr<std::optional<Record>> Migrator<Key, Record>::Read(const Key& key,
                                                                  const ReadOptions& options) {
  Client& client = *state_->client;
  std::string routing_key = state_->callbacks.routing_key(key);
  LOCKSTEP_ASSIGN_OR_RETURN(RouteHandle route,
                            client.Route(state_->migration, routing_key, options.attributes));
  const domain::Side side = route.decision().read_side;
  const ReadContext context{route.epoch(), side, ReadPurpose::kServe, options.deadline};

  const absl::Duration start = client.clock().SinceBoot();
  absl::StatusOr<std::optional<Record>> served = state_->callbacks.on(side).read(key, context);
  const absl::Duration latency = client.clock().SinceBoot() - start;
  std::string subject = options.subject;
  if (subject.empty() && state_->callbacks.subject != nullptr) subject = state_->callbacks.subject(key);
  client.telemetry().RecordRead(route.attribution(), internal::ArmOf(side), served.ok(), latency,
                                route.SubjectNamed(subject.empty() ? routing_key : subject));
  if (route.decision().compare) {
    Compare(key, std::move(route), std::move(routing_key), std::move(subject), options, served);
  }
  return served;
}

template <typename Key, typename Record>
void Migrator<Key, Record>::Compare(const Key& key, RouteHandle route, std::string routing_key,
                                    std::string subject, const ReadOptions& options,
                                    const absl::StatusOr<std::optional<Record>>& served) {
  if (!state_->comparisons->Admit()) {
    state_->client->telemetry().RecordComparisonShed(route.attribution());
    return;
  }
  internal::ComparisonTask task{.route = std::move(route),
                                .routing_key = std::move(routing_key),
                                .subject = std::move(subject),
                                .trace_id = options.trace_id};
  task.served_side = task.route.decision().read_side;
  task.served = [state = state_, served] { return ViewOf(*state, served); };
  task.read = [state = state_, key, epoch = task.route.epoch()](domain::Side side, absl::Time deadline,
                                                                bool convert) -> internal::SideView {
    const absl::StatusOr<std::optional<Record>> answer =
        state->callbacks.on(side).read(key, ReadContext{epoch, side, ReadPurpose::kCompare, deadline});
    if (convert || !answer.ok()) return ViewOf(*state, answer);
    return std::optional<RecordView>();
  };
  state_->comparisons->Start(std::move(task));
}

template <typename Key, typename Record>
absl::StatusOr<WriteResult<Record>> Migrator<Key, Record>::Apply(const Key& key, const Record* record,
                                                                 const WriteOptions& options) {
  Client& client = *state_->client;
  std::string routing_key = state_->callbacks.routing_key(key);
  LOCKSTEP_ASSIGN_OR_RETURN(const RouteHandle route,
                            client.Route(state_->migration, routing_key, options.attributes));
  LOCKSTEP_ASSIGN_OR_RETURN(const internal::WritePlan plan,
                            internal::PlanWrite(route.decision().write_mode, route.migration()));
  const WriteFn& write_authoritative = state_->callbacks.on(plan.authoritative).write;
  const bool can_mirror = !plan.mirror.has_value() || state_->callbacks.on(*plan.mirror).mirror != nullptr;
  if (write_authoritative == nullptr || !can_mirror) {
    return internal::MissingWriteCallback(route.migration(), route.stage());
  }
  WriteContext context{.epoch = route.epoch(),
                       .side = plan.authoritative,
                       .idempotency_key = options.idempotency_key.empty() ? client.NextIdempotencyKey()
                                                                          : options.idempotency_key,
                       .deadline = options.deadline};
  absl::StatusOr<WriteResult<Record>> written = write_authoritative(key, record, context);
  client.telemetry().RecordAuthoritativeWrite(route.attribution(), written.ok());
  if (!plan.mirror.has_value()) return written;

  context.side = *plan.mirror;
  MirrorWrite mirror{route.attribution(), std::move(routing_key), plan.authoritative, std::move(context)};
  if (!written.ok()) {
    // The write may have happened all the same. Only the side itself can tell; if it did, the mirror must
    // follow.
    if (internal::OutcomeUnknown(written.status()) &&
        state_->callbacks.on(plan.authoritative).current != nullptr) {
      QueueRepair(state_, key, std::move(mirror), std::nullopt);
    }
    return written;
  }
  LOCKSTEP_RETURN_IF_ERROR(Mirror(key, *written, std::move(mirror), route, options.deadline));
  return written;
}

template <typename Key, typename Record>
absl::Status Migrator<Key, Record>::Mirror(const Key& key, const WriteResult<Record>& written,
                                           MirrorWrite write, const RouteHandle& route,
                                           absl::Time call_deadline) {
  Client& client = *state_->client;
  write.context.deadline = std::min(call_deadline, client.clock().Now() + state_->options.mirror_deadline);
  const MirrorFn& mirror = state_->callbacks.on(write.context.side).mirror;
  const absl::Status status = mirror(key, RowOf(written), written.version, write.context);
  client.telemetry().RecordMirrorWrite(write.attribution,
                                       status.ok() ? MirrorResult::kOk : MirrorResult::kFailed);
  if (status.ok()) return status;
  const internal::MirrorFailure failure{.migration = route.migration(),
                                        .mirror = write.context.side,
                                        .version = written.version,
                                        .stage = route.stage(),
                                        .policy = state_->options.mirror_failure};
  const bool queued = QueueRepair(state_, key, std::move(write), written);
  return internal::AfterMirrorFailure(failure, status, queued);
}

template <typename Key, typename Record>
bool Migrator<Key, Record>::QueueRepair(const std::shared_ptr<const State>& state, const Key& key,
                                        MirrorWrite write, std::optional<WriteResult<Record>> known) {
  internal::Repair repair{.attribution = write.attribution,
                          .backoff_initial = state->options.repair_backoff_initial,
                          .backoff_max = state->options.repair_backoff_max,
                          .attempt = nullptr};
  repair.attempt = [state, key, write = std::move(write), known = std::move(known)]() mutable {
    return AttemptRepair(*state, key, write, known);
  };
  return state->client->repair_queue()->Add(std::move(repair));
}

template <typename Key, typename Record>
internal::RepairOutcome Migrator<Key, Record>::AttemptRepair(
    const State& state, const Key& key, MirrorWrite& write, const std::optional<WriteResult<Record>>& known) {
  Client& client = *state.client;
  if (internal::RepairIsObsolete(client, state.migration, write.routing_key, write.attribution.generation,
                                 write.authoritative)) {
    return internal::RepairOutcome::kObsolete;
  }
  const absl::Time deadline = client.clock().Now() + state.options.mirror_deadline;
  write.context.deadline = deadline;
  const CurrentFn& current = state.callbacks.on(write.authoritative).current;
  const MirrorFn& mirror = state.callbacks.on(write.context.side).mirror;
  absl::Status status;
  if (current != nullptr) {
    const ReadContext context{write.attribution.epoch, write.authoritative, ReadPurpose::kRepair, deadline};
    const absl::StatusOr<WriteResult<Record>> row = current(key, context);
    if (!row.ok()) return internal::RepairOutcome::kRetry;
    // A record that never was has nothing to mirror.
    if (!row->row.has_value() && row->version == 0) return internal::RepairOutcome::kDone;
    status = mirror(key, RowOf(*row), row->version, write.context);
  } else {
    // Repeating the very write that failed is as good: if the mirror has got something newer since, it
    // ignores this.
    status = mirror(key, RowOf(*known), known->version, write.context);
  }
  if (!status.ok()) return internal::RepairOutcome::kRetry;
  client.telemetry().RecordMirrorWrite(write.attribution, MirrorResult::kOk);
  return internal::RepairOutcome::kDone;
}

template <typename Key, typename Record>
void Migrator<Key, Record>::ReadAsync(Key key, ReadOptions options,
                                      std::function<void(absl::StatusOr<std::optional<Record>>)> done) {
  state_->client->executor().Submit(absl::ZeroDuration(),
                                    [state = state_, key = std::move(key), options = std::move(options),
                                     done = std::move(done)] { done(Migrator(state).Read(key, options)); });
}

template <typename Key, typename Record>
void Migrator<Key, Record>::WriteAsync(Key key, Record record, WriteOptions options,
                                       std::function<void(absl::StatusOr<WriteResult<Record>>)> done) {
  state_->client->executor().Submit(
      absl::ZeroDuration(),
      [state = state_, key = std::move(key), record = std::move(record), options = std::move(options),
       done = std::move(done)] { done(Migrator(state).Write(key, record, options)); });
}

}  // namespace lockstep
