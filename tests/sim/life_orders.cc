// The service's own code: what it does for a read and a write of either store, and what it asks the SDK for.
#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "tests/sim/life.h"
#include "tests/sim/server.h"

namespace lockstep::sim {
namespace {

using domain::Side;

constexpr absl::Duration kReplicaLag = absl::Milliseconds(1500);
constexpr absl::Duration kMaxHoldWait = absl::Seconds(6);

std::optional<Record> RecordOf(const Row& row) {
  if (!row.value.has_value()) return std::nullopt;
  return Record{*row.value};
}

Row RowOf(const Record* record, Version version) {
  Row row;
  row.version = version;
  if (record != nullptr) row.value = record->value;
  return row;
}

std::string Describe(std::optional<int64_t> value) {
  return value.has_value() ? absl::StrCat("= ", *value) : "deleted";
}

}  // namespace

const MigratorOptions Life::Options() const {
  MigratorOptions options;
  options.mirror_mode = process_->config_.mirror_mode;
  options.max_hold_wait = kMaxHoldWait;
  options.paired_latency_share = 0;
  options.settle_delays = {absl::Milliseconds(20)};
  options.repair_backoff_max = absl::Seconds(1);
  return options;
}

std::unique_ptr<Orders> Life::MakeOrders() {
  const auto read = [this](Side side) {
    return [this, side](const Key& key, const ReadContext& context) { return OnRead(side, key, context); };
  };
  const auto current = [this](Side side) {
    return [this, side](const Key& key, const ReadContext& context) { return OnCurrent(side, key, context); };
  };
  const auto write = [this](Side side) {
    return [this, side](const Key& key, const Record* record, const WriteContext& context) {
      return OnWrite(side, key, record, context);
    };
  };
  const auto mirror = [this](Side side) {
    return [this, side](const Key& key, const Record* row, Version version, const WriteContext& context) {
      return OnMirror(side, key, row, version, context);
    };
  };
  const bool other_buckets = broken() == Broken::kOtherBuckets && index() == 1;
  absl::StatusOr<std::unique_ptr<Orders>> orders =
      Orders::Builder(client_.get(), kMigration)
          .RoutingKey([other_buckets](const Key& key) {
            return absl::StrCat(other_buckets ? "other-" : "", RoutingKeyOf(key));
          })
          .ReadOld(read(Side::kOld))
          .ReadNew(read(Side::kNew))
          .WriteOld(write(Side::kOld))
          .WriteNew(write(Side::kNew))
          .MirrorToNew(mirror(Side::kNew))
          .MirrorToOld(mirror(Side::kOld))
          .CurrentOld(current(Side::kOld))
          .CurrentNew(current(Side::kNew))
          .KeyCodec([](const Key& key) { return absl::StrCat(key); },
                    [](absl::string_view text) -> absl::StatusOr<Key> {
                      Key key = 0;
                      if (!absl::SimpleAtoi(text, &key)) return absl::DataLossError("not a key");
                      return key;
                    })
          .Fields([](const Record& record) {
            return RecordView{{"value", record.value}};
          })
          .Options(Options())
          .Build();
  LOCKSTEP_CHECK(orders.ok(), orders.status().ToString().c_str());
  return *std::move(orders);
}

absl::StatusOr<std::optional<Record>> Life::OnRead(Side side, Key key, const ReadContext& context) {
  ReadOp* const op = context.purpose == ReadPurpose::kServe ? PresentRead() : nullptr;
  if (op != nullptr) {
    op->side = side;
    op->epoch = context.epoch;
    if (op->routed_by_stage) commons_->oracle.OnRouted(context.epoch, key, /*write=*/false, side);
    if (process_->config_.policy == domain::LeasePolicy::kKeepServing) {
      op->acting = commons_->oracle.BeginActing(index(), key, context.epoch, absl::InfiniteDuration());
    }
  }
  const bool replica = broken() == Broken::kStaleReplica && side == Side::kNew && op != nullptr;
  const StoreAnswer answer = Call(side, key, context.deadline, [this, side, key, replica] {
    if (!replica) return StoreAnswer{absl::OkStatus(), commons_->store(side).Get(key)};
    Row row;
    for (const auto& [since, past] : commons_->past[key]) {
      if (since <= commons_->scheduler.now() - kReplicaLag) row = past;
    }
    return StoreAnswer{absl::OkStatus(), row};
  });
  if (op != nullptr) {
    op->seen = answer.row;
    op->served = answer.status.ok();
    op->store_failed = !answer.status.ok();
  }
  if (!answer.status.ok()) return answer.status;
  return RecordOf(answer.row);
}

absl::StatusOr<WriteResult<Record>> Life::OnCurrent(Side side, Key key, const ReadContext& context) {
  const StoreAnswer answer = Call(side, key, context.deadline, [this, side, key] {
    return StoreAnswer{absl::OkStatus(), commons_->store(side).Get(key)};
  });
  if (!answer.status.ok()) return answer.status;
  // A read with a token may be content with this.
  if (ReadOp* const op = PresentRead()) {
    op->side = side;
    op->epoch = context.epoch;
    op->seen = answer.row;
  }
  return WriteResult<Record>{answer.row.version, RecordOf(answer.row)};
}

void Life::Act(WriteOp& op, const WriteContext& context) {
  commons_->oracle.EndActing(op.acting);
  absl::Duration until = absl::InfiniteDuration();
  if (process_->config_.policy == domain::LeasePolicy::kFailWrites && broken() != Broken::kIgnoresDeadlines) {
    until = commons_->scheduler.now() + (context.deadline - clock().Now()) / process_->config_.clock_rate;
  }
  op.acting = commons_->oracle.BeginActing(index(), op.key, context.epoch, until);
}

absl::StatusOr<WriteResult<Record>> Life::OnWrite(Side side, Key key, const Record* record,
                                                  const WriteContext& context) {
  const auto found = ops_.find(context.idempotency_key);
  const std::shared_ptr<WriteOp> op = found == ops_.end() ? nullptr : found->second;
  if (op != nullptr) {
    op->epoch = context.epoch;
    op->authoritative = side;
    commons_->oracle.OnRouted(context.epoch, key, /*write=*/true, side);
    Act(*op, context);
    Trace(absl::StrCat(context.idempotency_key, " writes record ", key, " on ", domain::SideName(side),
                       " at epoch ", context.epoch));
  }
  if (broken() == Broken::kMirrorFirst) MirrorFirst(side, key, record, context);
  const StoreAnswer answer =
      Call(side, key, context.deadline, [this, side, key, op, value = RowOf(record, 0).value] {
        Row row{commons_->store(side).Get(key).version + 1, value};
        if (broken() == Broken::kVersionsFromClock)
          row.version = absl::ToInt64Microseconds(clock().SinceBoot());
        commons_->store(side).rows[key] = row;
        commons_->oracle.OnApplied(side, key, row);
        if (side == Side::kNew) commons_->past[key].emplace_back(commons_->scheduler.now(), row);
        if (op != nullptr) op->version = row.version;
        return StoreAnswer{absl::OkStatus(), row};
      });
  if (op != nullptr && !answer.status.ok()) op->store_failed = true;
  if (!answer.status.ok()) return answer.status;
  return WriteResult<Record>{answer.row.version, RecordOf(answer.row)};
}

void Life::MirrorFirst(Side side, Key key, const Record* record, const WriteContext& context) {
  const domain::RoutingState* const state = commons_->oracle.StateOf(context.epoch);
  if (state == nullptr) return;
  const domain::LadderRow& ladder = domain::LadderRowOf(state->stage);
  if (!ladder.writes_old || !ladder.writes_new) return;
  const Side mirror = side == Side::kOld ? Side::kNew : Side::kOld;
  const Row row = RowOf(record, commons_->store(side).Get(key).version + 1);
  Call(mirror, key, context.deadline, [this, mirror, key, row] { return ApplyMirror(mirror, key, row); });
}

Life::StoreAnswer Life::ApplyMirror(Side side, Key key, const Row& row) {
  ModelStore& store = commons_->store(side);
  const Row present = store.Get(key);
  const std::optional<Version> version = present.version == 0 ? std::nullopt : std::optional(present.version);
  if (ShouldApply(version, row.version) || broken() == Broken::kNoVersionGuard) {
    store.rows[key] = row;
    if (side == Side::kNew) commons_->past[key].emplace_back(commons_->scheduler.now(), row);
  }
  commons_->oracle.OnApplied(side, key, row);
  return {absl::OkStatus(), row};
}

absl::Status Life::OnMirror(Side side, Key key, const Record* record, Version version,
                            const WriteContext& context) {
  const auto found = ops_.find(context.idempotency_key);
  const std::shared_ptr<WriteOp> op = found == ops_.end() ? nullptr : found->second;
  if (op != nullptr && !op->ended) Act(*op, context);
  const Row row = RowOf(record, version);
  if (broken() == Broken::kMirrorLies) {
    After(absl::Milliseconds(300), [this, side, key, row] { ApplyMirror(side, key, row); });
    return absl::OkStatus();
  }
  const StoreAnswer answer =
      Call(side, key, context.deadline, [this, side, key, row] { return ApplyMirror(side, key, row); });
  if (op != nullptr && !answer.status.ok()) op->store_failed = true;
  Trace(absl::StrCat(context.idempotency_key, " mirrors record ", key, " version ", version, " to ",
                     domain::SideName(side), " at epoch ", context.epoch, ": ", answer.status.ToString()));
  return answer.status;
}

bool Life::Excusable(const absl::Status& status, bool store_failed, absl::Time deadline) const {
  if (store_failed || clock().Now() >= deadline) return true;
  if (process_->config_.policy == domain::LeasePolicy::kFailWrites) return true;
  // Before the first snapshot there is nothing to route by.
  if (!ready_once_) return true;
  // A sick side, which earlier calls have found so.
  return absl::StrContains(status.message(), "authoritative write stands");
}

Life::ReadOp* Life::PresentRead() {
  const Fiber* const fiber = Fiber::Current();
  const auto found = fiber == nullptr ? fibers_.end() : fibers_.find(fiber->id());
  return found == fibers_.end() ? nullptr : found->second.read;
}

void Life::Write(Key key, std::optional<int64_t> value) {
  if (client_ == nullptr || stopping_) return;
  if (broken() == Broken::kIgnoresHold && process_->prng_.Below(2) == 0) {
    StartFiber([this, key, value] { WriteThoughHeld(key, value); });
    return;
  }
  auto op = std::make_shared<WriteOp>();
  op->process = index();
  op->key = key;
  op->value = value;
  const absl::Duration patience = absl::Milliseconds(500 + process_->prng_.Below(9000));
  op->started = clock().Now();
  op->deadline = op->started + patience;
  const std::string id = absl::StrCat("write-", index(), "-", process_->lives_, "-", next_id_++);
  ops_.emplace(id, op);
  WriteOptions options;
  options.idempotency_key = id;
  options.deadline = op->deadline;
  const auto done = [this, op, id](const absl::StatusOr<WriteResult<Record>>& result) {
    Trace(absl::StrCat(id, " of record ", op->key, " ", Describe(op->value), ": ", result.status().ToString(),
                       result.ok() ? absl::StrCat(" version ", result->version) : ""));
    EndWrite(op, result);
  };
  if (value.has_value()) {
    orders_->WriteAsync(key, Record{*value}, std::move(options), done);
  } else {
    orders_->DeleteAsync(key, std::move(options), done);
  }
}

void Life::EndWrite(const std::shared_ptr<WriteOp>& op, const absl::StatusOr<WriteResult<Record>>& result) {
  op->ended = true;
  commons_->oracle.EndActing(op->acting);
  SimStats& stats = commons_->stats;
  if (result.ok()) {
    ++stats.writes;
    commons_->oracle.OnAcknowledged(*op, result->token);
    ReadToken& token = process_->tokens_[op->key];
    if (result->token.version > token.version) token = result->token;
    return;
  }
  ++stats.failed;
  const bool held = absl::StrContains(result.status().message(), "are held");
  if (held) ++stats.held_expired;
  // A hold beyond the longest wait: the control plane is away, or instances don't follow.
  if (held && clock().Now() >= op->started + kMaxHoldWait) return;
  if (!Excusable(result.status(), op->store_failed, op->deadline)) {
    commons_->oracle.Violate(absl::StrCat("process ", index(), " keeps serving, but a write of record ",
                                          op->key, " failed: ", result.status().ToString()));
  }
}

void Life::WriteThoughHeld(Key key, std::optional<int64_t> value) {
  // Somebody's clever way around a migration: the old store is there, after all.
  const absl::StatusOr<RouteHandle> route = client_->Route(kMigration, RoutingKeyOf(key));
  if (!route.ok() || route->decision().write_mode != domain::WriteMode::kHeld) return;
  Record record{value.value_or(0)};
  const Record* const row = value.has_value() ? &record : nullptr;
  WriteContext context{.epoch = route->epoch(), .side = Side::kOld, .idempotency_key = "around"};
  const absl::StatusOr<WriteResult<Record>> written = OnWrite(Side::kOld, key, row, context);
  if (!written.ok()) return;
  context.side = Side::kNew;
  if (!OnMirror(Side::kNew, key, row, written->version, context).ok()) return;
  WriteOp op;
  op.key = key;
  op.value = value;
  commons_->oracle.OnAcknowledged(op, {Side::kOld, written->version, /*mirrored=*/true, context.epoch});
}

void Life::Read(Key key, const ReadToken* after) {
  if (client_ == nullptr || stopping_) return;
  ReadOptions options;
  options.deadline = clock().Now() + absl::Milliseconds(500 + process_->prng_.Below(4000));
  if (after != nullptr) options.after = *after;
  StartFiber([this, key, options = std::move(options)] {
    ReadOp op;
    const bool with_token = options.after.epoch != 0;
    const bool stale = client_->Stats().stale;
    op.routed_by_stage = !stale && !with_token;
    const ReadExpectation expected = commons_->oracle.Expect(key, with_token ? &options.after : nullptr);
    SetPresentRead(&op);
    ++reads_under_way_;
    commons_->oracle.OnReadAsked();
    const absl::StatusOr<std::optional<Record>> answer = orders_->Read(key, options);
    --reads_under_way_;
    SetPresentRead(nullptr);
    commons_->oracle.EndActing(op.acting);
    Trace(absl::StrCat("reads record ", key, " from ", domain::SideName(op.side), " at epoch ", op.epoch,
                       ": ",
                       answer.ok() ? absl::StrCat("version ", op.seen.version) : answer.status().ToString()));
    if (answer.ok()) {
      ++commons_->stats.reads;
      const bool live = !stale && !client_->Stats().stale;
      commons_->oracle.OnRead(key, expected, op.side, op.epoch, op.seen, live);
      return;
    }
    ++commons_->stats.failed;
    if (!Excusable(answer.status(), op.store_failed, options.deadline)) {
      commons_->oracle.Violate(absl::StrCat("process ", index(), " keeps serving, but a read of record ", key,
                                            " failed: ", answer.status().ToString()));
    }
  });
}

}  // namespace lockstep::sim
