#include "lockstep/internal/mirror_path.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"

namespace lockstep::internal {

MirrorPath::MirrorPath(Client* client, MigrationHandle migration, const MigratorOptions& options,
                       std::shared_ptr<MirrorJournal> journal)
    : client_(client),
      migration_(migration),
      options_(options),
      journal_(std::move(journal)),
      gate_(options.breaker_failures, options.breaker_probe_interval, options.max_mirrors_in_flight) {}

absl::StatusOr<OpenMirror> MirrorPath::Begin(const MirrorWrite& write, std::string key, bool sync) {
  OpenMirror open;
  if (journal_ == nullptr) return open;
  if (!client_->repair_queue()->Reserve()) {
    return absl::ResourceExhaustedError(
        "nothing was written: so many mirrors are open (ClientOptions::max_outstanding_repairs), or the "
        "client is "
        "shutting down, that this one could not be followed up; retry when the mirror keeps up");
  }
  JournalEntry entry{.generation = write.attribution.generation,
                     .epoch = write.attribution.epoch,
                     .contract_revision = write.attribution.contract_revision,
                     .store_epoch = write.store_epoch,
                     .authoritative = write.authoritative,
                     .kind = options_.journal_kind,
                     .routing_key = write.routing_key,
                     .key = std::move(key),
                     .idempotency_key = write.idempotency_key};
  const absl::StatusOr<uint64_t> id = journal_->Note(std::move(entry), sync);
  if (!id.ok()) {
    client_->repair_queue()->Unreserve();
    const absl::StatusCode code =
        absl::IsInvalidArgument(id.status()) ? id.status().code() : absl::StatusCode::kUnavailable;
    return absl::Status(code,
                        absl::StrCat("nothing was written, because the mirror journal could not note it: ",
                                     id.status().message()));
  }
  open.journal_id = *id;
  return open;
}

void MirrorPath::End(const OpenMirror& open) {
  if (!open.journal_id.has_value()) return;
  Strike(open);
  client_->repair_queue()->Unreserve();
}

void MirrorPath::Strike(const OpenMirror& open) {
  if (open.journal_id.has_value()) journal_->Strike(*open.journal_id);
}

void MirrorPath::MarkCounted(const OpenMirror& open) {
  if (open.journal_id.has_value()) journal_->MarkCounted(*open.journal_id);
}

absl::StatusOr<absl::Time> MirrorPath::MirrorDeadline(absl::Time call_deadline,
                                                      const RouteHandle* route) const {
  return client_->MayWriteUntil(std::min(call_deadline, client_->clock().Now() + options_.mirror_deadline),
                                route);
}

absl::Status MirrorPath::Attempt(const RouteHandle* route, const MirrorWrite& write, absl::Time call_deadline,
                                 const std::function<absl::Status(const WriteContext&)>& mirror) {
  const absl::StatusOr<absl::Time> deadline = MirrorDeadline(call_deadline, route);
  const absl::Status admitted =
      deadline.ok() ? gate_.Enter(write.mirror(), client_->clock().SinceBoot()) : deadline.status();
  if (!admitted.ok()) {
    client_->telemetry().RecordMirrorWrite(write.attribution, MirrorResult::kShed);
    return admitted;
  }
  const absl::Status status = mirror(write.Context(*deadline));
  gate_.Leave(write.mirror(), status, client_->clock().SinceBoot());
  client_->telemetry().RecordMirrorWrite(write.attribution,
                                         status.ok() ? MirrorResult::kOk : MirrorResult::kFailed);
  return status;
}

internal::Repair MirrorPath::RepairOf(const OpenMirror& open, const MirrorWrite& write,
                                      std::shared_ptr<const RecordAccess> record) {
  internal::Repair repair;
  repair.attribution = write.attribution;
  repair.store_epoch = write.store_epoch;
  repair.bucket = write.bucket;
  repair.authoritative = write.authoritative;
  repair.backoff_initial = options_.repair_backoff_initial;
  repair.backoff_max = options_.repair_backoff_max;
  repair.on_lost = [path = shared_from_this(), open, write] {
    path->LogLost(write);
    path->Strike(open);
  };
  repair.attempt = [path = shared_from_this(), open, write, record = std::move(record)] {
    const RepairOutcome outcome = path->AttemptRepair(write, *record);
    if (IsOver(outcome)) path->Strike(open);
    return outcome;
  };
  return repair;
}

bool MirrorPath::Repair(const OpenMirror& open, const MirrorWrite& write,
                        std::shared_ptr<const RecordAccess> record) {
  const bool queued = client_->repair_queue()->Add(RepairOf(open, write, std::move(record)),
                                                   /*reserved=*/open.journal_id.has_value());
  if (queued) MarkCounted(open);
  return queued || open.journal_id.has_value();
}

void MirrorPath::GiveUp(const OpenMirror& open, const MirrorWrite& write) {
  client_->repair_queue()->Refuse(RepairOf(open, write, nullptr));
  End(open);
}

bool MirrorPath::WriteBehind(const OpenMirror& open, const MirrorWrite& write,
                             std::shared_ptr<const RecordAccess> record) {
  internal::Repair mirror = RepairOf(open, write, record);
  mirror.attempt = [path = shared_from_this(), open, write, record = std::move(record),
                    repair = std::move(mirror.attempt), is_first = true]() mutable {
    if (!std::exchange(is_first, false)) return repair();
    const RepairOutcome outcome = path->AttemptQueued(write, *record);
    if (IsOver(outcome)) path->Strike(open);
    return outcome;
  };
  mirror.on_failure = [path = shared_from_this(), open] { path->MarkCounted(open); };
  return client_->repair_queue()->AddMirror(std::move(mirror), /*reserved=*/open.journal_id.has_value());
}

void MirrorPath::Recover(const JournalEntry& entry, std::shared_ptr<const RecordAccess> record) {
  if (!journal_->Claim(entry.id)) return;
  const absl::StatusOr<RouteHandle> present = client_->Route(migration_, entry.routing_key);
  const MirrorWrite write{.attribution = AttributionOf(entry, migration_.index()),
                          .store_epoch = entry.store_epoch,
                          .bucket = present.ok() ? present->decision().bucket : 0,
                          .routing_key = entry.routing_key,
                          .authoritative = entry.authoritative,
                          .idempotency_key = entry.idempotency_key};
  const OpenMirror open{entry.id};
  internal::Repair repair = RepairOf(open, write, std::move(record));
  repair.counted = entry.counted;
  if (!present.ok()) repair.bucket.reset();
  client_->repair_queue()->AddRecovered(std::move(repair));
  client_->repair_queue()->ReleaseHold(write.attribution, write.store_epoch);
  MarkCounted(open);
}

std::optional<RepairOutcome> MirrorPath::EndWithoutAttempt(const RouteHandle& present,
                                                           const MirrorWrite& write) const {
  switch (NeedForRepair(present, write.attribution.generation, write.authoritative)) {
    case RepairNeed::kNeeded:
      return std::nullopt;
    case RepairNeed::kObsolete:
      return RepairOutcome::kObsolete;
    case RepairNeed::kLost:
      break;
  }
  LogLost(write);
  return RepairOutcome::kLost;
}

void MirrorPath::LogLost(const MirrorWrite& write) const {
  const absl::StatusOr<RouteHandle> present = client_->Route(migration_, write.routing_key);
  if (!present.ok()) return;  // it is counted, and the client is closing
  Log(LogLevel::kError,
      "the authority over a record has moved before its mirror was repaired: the two sides differ for good, "
      "unless it is written again or copied",
      {{"migration", present->migration()},
       {"key_digest", client_->telemetry().RoutingKeyDigest(present->state().salt_seed, write.routing_key)},
       {"epoch", absl::StrCat(write.attribution.epoch)},
       {"written_to", domain::SideName(write.authoritative)}});
}

RepairOutcome MirrorPath::AttemptQueued(const MirrorWrite& write, const RecordAccess& record) {
  const absl::StatusOr<RouteHandle> present = client_->Route(migration_, write.routing_key);
  if (present.ok()) {
    if (const std::optional<RepairOutcome> end = EndWithoutAttempt(*present, write)) return *end;
  }
  const absl::Status status =
      Attempt(present.ok() ? &*present : nullptr, write, absl::InfiniteFuture(),
              [&](const WriteContext& context) { return record.MirrorKnown(context); });
  return status.ok() ? RepairOutcome::kDone : RepairOutcome::kRetry;
}

RepairOutcome MirrorPath::AttemptRepair(const MirrorWrite& write, const RecordAccess& record) {
  // Held to the end: what is in force now must not be given up before the mirror write has ended, or it could
  // come after the authority has moved.
  const absl::StatusOr<RouteHandle> present = client_->Route(migration_, write.routing_key);
  if (present.ok() && IsOlderThan(*present, write.store_epoch, write.attribution.epoch)) {
    return RepairOutcome::kRetry;
  }
  if (present.ok()) {
    if (const std::optional<RepairOutcome> end = EndWithoutAttempt(*present, write)) return *end;
  }
  // Whoever gave its lease up is not waited for: a late mirror might meet versions that the other side minted
  // since.
  const absl::StatusOr<absl::Time> deadline =
      MirrorDeadline(absl::InfiniteFuture(), present.ok() ? &*present : nullptr);
  if (!deadline.ok()) return RepairOutcome::kRetry;
  const Clock& clock = client_->clock();
  if (!gate_.Enter(write.mirror(), clock.SinceBoot()).ok()) return RepairOutcome::kRetry;

  return Copy(write, record, write.Context(*deadline));
}

RepairOutcome MirrorPath::Copy(const MirrorWrite& write, const RecordAccess& record, const WriteContext& to) {
  CopyResult copy{.existed = true};
  const bool has_current = record.HasCurrent(write.authoritative);
  if (has_current) {
    const ReadContext from{write.attribution.epoch, write.authoritative, ReadPurpose::kRepair, to.deadline};
    copy = record.MirrorCurrent(from, to);
  }
  // Repeating the very write that failed is as good: if the mirror has got something newer since, it ignores
  // this.
  if ((!has_current || !copy.read.ok()) && record.HasKnown()) {
    copy = {.read = absl::OkStatus(), .mirrored = record.MirrorKnown(to), .existed = true};
  }
  // Without a row to mirror nothing was learnt of the mirror.
  const bool tried = copy.read.ok() && copy.existed;
  gate_.Leave(write.mirror(), tried ? copy.mirrored : absl::CancelledError(), client_->clock().SinceBoot());
  if (!copy.read.ok()) return RepairOutcome::kUnreadable;
  if (!copy.mirrored.ok()) return RepairOutcome::kRetry;
  if (copy.existed) client_->telemetry().RecordMirrorWrite(write.attribution, MirrorResult::kOk);
  return RepairOutcome::kDone;
}

void MirrorPath::NoteForSliceCheck(const MirrorWrite& write, absl::string_view identity,
                                   std::shared_ptr<const RecordAccess> record) {
  const std::string tail = identity.empty()
                               ? absl::StrCat("#", anonymous_records_.fetch_add(1, std::memory_order_relaxed))
                               : std::string(identity);
  NotedRecord noted;
  noted.bucket = write.bucket;
  noted.identity =
      absl::StrCat(options_.journal_kind, "/", write.routing_key.size(), "/", write.routing_key, tail);
  noted.settle_delays = options_.settle_delays;
  noted.check = [client = client_, migration = migration_, write, record = std::move(record),
                 timeout = options_.mirror_deadline](bool repair) {
    return CheckRecord(*client, migration, write, *record, timeout, repair);
  };
  client_->slice_checker().Note(migration_.index(), std::move(noted));
}

}  // namespace lockstep::internal
