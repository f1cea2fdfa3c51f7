// The templates of migrator.h. Not included by anything else.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/status_macros.h"
#include "lockstep/internal/migrator_build.h"
#include "lockstep/internal/record_access.h"
#include "lockstep/internal/write_operation.h"
#include "lockstep/internal/write_plan.h"
#include "lockstep/migrator.h"

namespace lockstep {

template <typename Key, typename Record>
class Migrator<Key, Record>::Access final : public internal::RecordAccess {
 public:
  Access(StatePtr state, Key key) : state_(std::move(state)), key_(std::move(key)) {}
  Access(StatePtr state, Key key, const std::optional<WriteResult<Record>>& known)
      : state_(std::move(state)), key_(std::move(key)), known_(known) {}

  bool HasCurrent(domain::Side side) const override { return On(side).current != nullptr; }
  bool HasMirror(domain::Side side) const override { return On(side).mirror != nullptr; }
  bool HasKnown() const override { return known_.has_value(); }
  absl::Status MirrorKnown(const WriteContext& to) const override {
    return On(to.side).mirror(key_, RowOf(*known_), known_->version, to);
  }
  internal::CopyResult MirrorCurrent(const ReadContext& from, const WriteContext& to) const override {
    internal::CopyResult result;
    const absl::StatusOr<WriteResult<Record>> row = On(from.side).current(key_, from);
    result.read = row.status();
    result.existed = row.ok() && (row->row.has_value() || row->version != 0);
    if (result.existed) result.mirrored = On(to.side).mirror(key_, RowOf(*row), row->version, to);
    return result;
  }
  absl::StatusOr<internal::SideRow> Row(const ReadContext& from) const override {
    internal::SideRow result;
    if (HasCurrent(from.side)) {
      LOCKSTEP_ASSIGN_OR_RETURN(const WriteResult<Record> current, On(from.side).current(key_, from));
      result.version = current.version;
      LOCKSTEP_ASSIGN_OR_RETURN(result.fields, ViewOf(*state_, current.row));
    } else {
      LOCKSTEP_ASSIGN_OR_RETURN(result.fields, ViewOf(*state_, On(from.side).read(key_, from)));
    }
    return result;
  }

 private:
  const SideCallbacks& On(domain::Side side) const { return state_->callbacks.on(side); }

  const StatePtr state_;
  const Key key_;
  const std::optional<WriteResult<Record>> known_;
};

template <typename Key, typename Record>
class Migrator<Key, Record>::ComparisonOf final : public internal::ComparisonTask {
 public:
  ComparisonOf(const StatePtr& state, const Key& key, const absl::StatusOr<std::optional<Record>>& served,
               RouteHandle&& route, std::string&& routing_key, std::string&& subject,
               const std::string& trace_id, domain::Side served_side)
      // The runner is the state's: one count keeps both.
      : ComparisonTask(std::shared_ptr<internal::ComparisonRunner>(state, state->comparisons.get()),
                       std::move(route), std::move(routing_key), std::move(subject), trace_id, served_side),
        state_(*state),
        key_(key),
        served_(served) {}

  internal::SideView Served() const override { return ViewOf(state_, served_); }
  internal::SideView Read(domain::Side side, absl::Time deadline, bool convert) const override {
    const absl::StatusOr<std::optional<Record>> answer = Ask(side, deadline);
    if (convert || !answer.ok()) return ViewOf(state_, answer);
    return std::optional<RecordView>();
  }
  internal::SideView ReadOther(absl::Time deadline, bool* equal) const override {
    const absl::StatusOr<std::optional<Record>> answer = Ask(internal::OtherSide(served_side), deadline);
    *equal = IsEqual(answer);
    if (*equal) return std::optional<RecordView>();
    return ViewOf(state_, answer);
  }

 private:
  absl::StatusOr<std::optional<Record>> Ask(domain::Side side, absl::Time deadline) const {
    return state_.callbacks.on(side).read(key_,
                                          ReadContext{route.epoch(), side, ReadPurpose::kCompare, deadline});
  }
  bool IsEqual(const absl::StatusOr<std::optional<Record>>& answer) const {
    return state_.callbacks.equal != nullptr && answer.ok() && answer->has_value() && served_.ok() &&
           served_->has_value() && state_.callbacks.equal(**served_, **answer);
  }

  const State& state_;
  const Key key_;
  const absl::StatusOr<std::optional<Record>> served_;
};

template <typename Key, typename Record>
class Migrator<Key, Record>::Operation final : public internal::WriteOperation {
 public:
  // `key` and `record` (null for a delete) must live as long as the operation. `done` is null for Run.
  Operation(StatePtr state, const Key& key, const Record* record, WriteOptions options, WriteDone done)
      : WriteOperation(state->path, std::move(options), state->callbacks.routing_key(key)),
        state_(std::move(state)),
        key_(key),
        record_(record),
        done_(std::move(done)) {}

  absl::StatusOr<WriteResult<Record>> Result(const absl::Status& status) {
    if (!status.ok()) return status;
    written_->token = token();
    return *std::move(written_);
  }

 protected:
  bool CanWrite(domain::Side side) const override { return On(side).write != nullptr; }
  bool CanMirror(domain::Side side) const override { return On(side).mirror != nullptr; }
  bool HasCurrent(domain::Side side) const override { return On(side).current != nullptr; }
  absl::StatusOr<Version> WriteAuthoritative(const WriteContext& context) override {
    LOCKSTEP_ASSIGN_OR_RETURN(written_, On(context.side).write(key_, record_, context));
    return written_->version;
  }
  absl::Status WriteMirror(const WriteContext& context) override {
    return On(context.side).mirror(key_, RowOf(*written_), written_->version, context);
  }
  std::string EncodedKey() const override {
    return state_->callbacks.encode_key == nullptr ? "" : state_->callbacks.encode_key(key_);
  }
  std::shared_ptr<const internal::RecordAccess> MakeAccess(bool with_result) const override {
    if (!with_result) return std::make_shared<Access>(state_, key_);
    return std::make_shared<Access>(state_, key_, written_);
  }
  void Done(const absl::Status& status) override { done_(Result(status)); }

 private:
  const SideCallbacks& On(domain::Side side) const { return state_->callbacks.on(side); }

  const StatePtr state_;
  const Key& key_;
  const Record* const record_;
  const WriteDone done_;
  std::optional<WriteResult<Record>> written_;
};

template <typename Key, typename Record>
absl::StatusOr<WriteResult<Record>> Migrator<Key, Record>::Apply(const Key& key, const Record* record,
                                                                 const WriteOptions& options) {
  Operation operation(state_, key, record, options, nullptr);
  const absl::Status status = operation.Run();
  return operation.Result(status);
}

template <typename Key, typename Record>
void Migrator<Key, Record>::ApplyAsync(Key key, std::optional<Record> record, WriteOptions options,
                                       WriteDone done) {
  struct Owned {
    Key key;
    std::optional<Record> record;
    std::optional<Operation> operation;
  };
  auto owned = std::make_shared<Owned>(Owned{std::move(key), std::move(record), std::nullopt});
  Operation& operation = owned->operation.emplace(
      state_, owned->key, owned->record ? &*owned->record : nullptr, std::move(options), std::move(done));
  internal::WriteOperation::RunAsync(std::shared_ptr<internal::WriteOperation>(std::move(owned), &operation));
}

// Nearly all of what it costs is paid by every read of a service: nothing here allocates, and what only a
// comparison needs is copied when there is one.
template <typename Key, typename Record>
absl::StatusOr<std::optional<Record>> Migrator<Key, Record>::Read(const Key& key,
                                                                  const ReadOptions& options) {
  const State& state = *state_;
  std::string routing_key = state.callbacks.routing_key(key);
  absl::StatusOr<RouteHandle> route = state.client->Route(state.migration, routing_key, options.attributes);
  if (!route.ok()) return std::move(route).status();
  domain::Side side = route->decision().read_side;
  const int64_t start = state.clock->NanosecondsSinceBoot();
  absl::StatusOr<std::optional<Record>> served =
      internal::MayLack(*route, options.after)
          ? ReadAfterWrite(key, *route, options, &side)
          : state.callbacks.on(side).read(
                key, ReadContext{route->epoch(), side, ReadPurpose::kServe, options.deadline});
  const int64_t latency = state.clock->NanosecondsSinceBoot() - start;
  std::string subject;  // where the service names one
  if (!options.subject.empty()) {
    subject = options.subject;
  } else if (state.callbacks.subject != nullptr) {
    subject = state.callbacks.subject(key);
  }
  state.telemetry->RecordRead(route->attribution(), internal::ArmOf(side), served.ok(),
                              absl::Nanoseconds(latency),
                              route->SubjectNamed(subject.empty() ? routing_key : subject));
  if (route->decision().compare) {
    Compare(key, *std::move(route), side, std::move(routing_key), std::move(subject), options, served);
  }
  return served;
}

template <typename Key, typename Record>
absl::StatusOr<std::optional<Record>> Migrator<Key, Record>::ReadAfterWrite(const Key& key,
                                                                            const RouteHandle& route,
                                                                            const ReadOptions& options,
                                                                            domain::Side* side) {
  const CurrentFn& current = state_->callbacks.on(*side).current;
  ReadContext context{route.epoch(), *side, ReadPurpose::kServe, options.deadline};
  if (current != nullptr) {
    absl::StatusOr<WriteResult<Record>> row = current(key, context);
    if (row.ok() && row->version >= options.after.version) return std::move(row->row);
  }
  context.side = *side = options.after.authoritative;
  return state_->callbacks.on(*side).read(key, context);
}

template <typename Key, typename Record>
void Migrator<Key, Record>::Compare(const Key& key, RouteHandle&& route, domain::Side served_side,
                                    std::string&& routing_key, std::string&& subject,
                                    const ReadOptions& options,
                                    const absl::StatusOr<std::optional<Record>>& served) {
  // A sick side would only let it wait, and whether it is sick is not what comparisons are for.
  if (state_->path->IsSick(internal::OtherSide(served_side)) || !state_->comparisons->Admit()) {
    state_->telemetry->RecordComparisonShed(route.attribution());
    return;
  }
  state_->comparisons->Start(std::make_shared<ComparisonOf>(state_, key, served, std::move(route),
                                                            std::move(routing_key), std::move(subject),
                                                            options.trace_id, served_side));
}

template <typename Key, typename Record>
void Migrator<Key, Record>::ReadAsync(Key key, ReadOptions options, ReadDone done) {
  if (absl::Status status = state_->client->CheckProcess(); !status.ok()) return done(std::move(status));
  state_->client->executor().Submit(absl::ZeroDuration(),
                                    [state = state_, key = std::move(key), options = std::move(options),
                                     done = std::move(done)] { done(Migrator(state).Read(key, options)); });
}

template <typename Key, typename Record>
absl::StatusOr<std::unique_ptr<Migrator<Key, Record>>> Migrator<Key, Record>::Builder::Build() {
  using domain::Side;
  LOCKSTEP_ASSIGN_OR_RETURN(const MigrationHandle migration, client_->Resolve(migration_));
  const SideCallbacks& old_side = callbacks_.on(Side::kOld);
  const SideCallbacks& new_side = callbacks_.on(Side::kNew);
  const internal::GivenCallbacks given{
      .routing_key = callbacks_.routing_key != nullptr,
      .read_old = old_side.read != nullptr,
      .read_new = new_side.read != nullptr,
      .write_old = old_side.write != nullptr,
      .write_new = new_side.write != nullptr,
      .mirror_to_new = new_side.mirror != nullptr,
      .current_old = old_side.current != nullptr,
      .current_new = new_side.current != nullptr,
      .fields = callbacks_.fields != nullptr,
      .key_codec = callbacks_.encode_key != nullptr && callbacks_.decode_key != nullptr};
  LOCKSTEP_ASSIGN_OR_RETURN(internal::MirrorParts parts,
                            internal::CheckBuild(client_, migration, migration_, options_, given));
  const auto state = std::make_shared<const State>(
      State{client_, &client_->clock(), &client_->telemetry(), migration, std::move(callbacks_),
            std::make_shared<internal::ComparisonRunner>(client_, options_), parts.path});
  std::vector<std::shared_ptr<Access>> records;  // of parts.left_open
  for (const internal::JournalEntry& entry : parts.left_open) {
    absl::StatusOr<Key> key = state->callbacks.decode_key(entry.key);
    if (!key.ok()) return internal::UndecodableKey(migration_, parts, key.status());
    records.push_back(std::make_shared<Access>(state, *std::move(key)));
  }
  for (size_t i = 0; i < records.size(); ++i) parts.path->Recover(parts.left_open[i], records[i]);
  return std::unique_ptr<Migrator>(new Migrator(state));
}

}  // namespace lockstep
