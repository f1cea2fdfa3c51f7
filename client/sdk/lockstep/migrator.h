// Reads and writes of one kind of record, migrated: the service's own code for both sides, in the order, on
// the side and with the comparisons that the migration's stage asks for.
//
//   auto orders = Migrator<int64_t, Order>::Builder(client, "shop/orders")
//                     .RoutingKey([](int64_t id) { return absl::StrCat(id); })
//                     .ReadOld(...).ReadNew(...).WriteOld(...).MirrorToNew(...)
//                     .Fields(...).Build();
//   absl::StatusOr<std::optional<Order>> order = (*orders)->Read(42);
//   absl::StatusOr<WriteResult<Order>> written = (*orders)->Write(42, changed);
//
// Key and Record are the service's types, both copyable; Record is the canonical form that both sides are
// mapped to.
//
// What the callbacks promise:
// - They are called from any thread, several at a time, and honour `deadline`.
// - All operations on one record use one routing key.
// - A read returns the record, nothing if there is none (a tombstone counts as none), or an error.
// - An authoritative write is atomic, gives the record a new, higher version, and returns the resulting row
// with it. The
//   side keeps deletes as versioned tombstones. It may use the idempotency key to recognise a repeat.
// - A mirror write applies only if its version is newer than what the side holds, row or tombstone, in one
// atomic step
//   (version_guard.h), and ignoring an older one is OK. So mirror writes may be late, repeated and reordered.
//
// With a state directory, the key of each mirrored write is noted on disk before the authoritative write, so
// that a crash between the two writes is made good after the restart; see KeyCodec and
// MigratorOptions::journal.
//
// Thread-safe. A Migrator must not outlive its client; comparisons and repairs under way survive the
// Migrator.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "lockstep/client.h"
#include "lockstep/comparator.h"
#include "lockstep/internal/comparison_runner.h"
#include "lockstep/internal/mirror_path.h"
#include "lockstep/migrator_types.h"

namespace lockstep {

template <typename Key, typename Record>
class Migrator {
 public:
  using RoutingKeyFn = std::function<std::string(const Key&)>;
  using SubjectFn = std::function<std::string(const Key&)>;
  using ReadFn = std::function<absl::StatusOr<std::optional<Record>>(const Key&, const ReadContext&)>;
  // `record` is null for a delete.
  using WriteFn = std::function<absl::StatusOr<WriteResult<Record>>(const Key&, const Record* record,
                                                                    const WriteContext&)>;
  // `row` is null for a tombstone.
  using MirrorFn = std::function<absl::Status(const Key&, const Record* row, Version, const WriteContext&)>;
  using CurrentFn = std::function<absl::StatusOr<WriteResult<Record>>(const Key&, const ReadContext&)>;
  using FieldsFn = std::function<RecordView(const Record&)>;
  using EqualFn = std::function<bool(const Record&, const Record&)>;
  using EncodeKeyFn = std::function<std::string(const Key&)>;
  using DecodeKeyFn = std::function<absl::StatusOr<Key>(absl::string_view)>;

  class Builder;

  // The record from the side that the key is routed to, as soon as that side has answered. Errors: those of
  // Client::Route, else the serving side's.
  absl::StatusOr<std::optional<Record>> Read(const Key& key, const ReadOptions& options = {});

  // Writes the authoritative side, then the mirror. OK: the authoritative side has it, and the mirror has it
  // or will be repaired. While the key's write authority is moving the call waits for it, up to its deadline
  // and MigratorOptions::max_hold_wait, which blocks this caller and nobody else (with
  // ClientOptions::own_thread = false another thread must call RunOnce meanwhile). Errors: those of
  // Client::Route and Client::CheckMayWrite; UNAVAILABLE: it was held too long, or the journal can't be
  // written; RESOURCE_EXHAUSTED: too many mirrors are open (journal only); CANCELLED before the authoritative
  // write: nothing was written in any of these. The authoritative side's (the mirror was not attempted). The
  // mirror's, under MirrorFailurePolicy, and CANCELLED: the message says that the authoritative write stands.
  absl::StatusOr<WriteResult<Record>> Write(const Key& key, const Record& record,
                                            const WriteOptions& options = {}) {
    return Apply(key, &record, options);
  }
  // As Write; the result's row is empty.
  absl::StatusOr<WriteResult<Record>> Delete(const Key& key, const WriteOptions& options = {}) {
    return Apply(key, nullptr, options);
  }

  // The same on the client's executor; `done` is called there, and no thread is blocked while a write is
  // held. `options.attributes` must live until then. Services whose stores are asynchronous throughout use
  // Client::Route instead.
  // In a child of fork() nothing runs on the executor: `done` is called with the error before they return.
  using ReadDone = std::function<void(absl::StatusOr<std::optional<Record>>)>;
  using WriteDone = std::function<void(absl::StatusOr<WriteResult<Record>>)>;
  void ReadAsync(Key key, ReadOptions options, ReadDone done);
  void WriteAsync(Key key, Record record, WriteOptions options, WriteDone done) {
    ApplyAsync(std::move(key), std::move(record), std::move(options), std::move(done));
  }
  void DeleteAsync(Key key, WriteOptions options, WriteDone done) {
    ApplyAsync(std::move(key), std::nullopt, std::move(options), std::move(done));
  }

  int comparisons_in_flight() const { return state_->comparisons->in_flight(); }

 private:
  // The service's code for one side.
  struct SideCallbacks {
    ReadFn read;
    WriteFn write;
    MirrorFn mirror;  // to this side
    CurrentFn current;
  };
  struct Callbacks {
    RoutingKeyFn routing_key;
    SubjectFn subject;  // null: the routing key
    FieldsFn fields;
    EqualFn equal;           // null: fields tell
    EncodeKeyFn encode_key;  // null: there is no codec
    DecodeKeyFn decode_key;
    SideCallbacks sides[2];
    SideCallbacks& on(domain::Side side) { return sides[static_cast<size_t>(side)]; }
    const SideCallbacks& on(domain::Side side) const { return sides[static_cast<size_t>(side)]; }
  };
  // Shared with comparisons, repairs and slice checks, which may outlive the Migrator. Immutable.
  struct State {
    Client* client;
    Clock* clock;                  // the client's
    TelemetryRecorder* telemetry;  // likewise
    MigrationHandle migration;
    Callbacks callbacks;
    std::shared_ptr<internal::ComparisonRunner> comparisons;
    std::shared_ptr<internal::MirrorPath> path;
  };
  using StatePtr = std::shared_ptr<const State>;
  class Access;        // internal::RecordAccess
  class ComparisonOf;  // internal::ComparisonTask
  class Operation;     // internal::WriteOperation

  explicit Migrator(StatePtr state) : state_(std::move(state)) {}

  static internal::SideView ViewOf(const State& state, const absl::StatusOr<std::optional<Record>>& answer) {
    if (!answer.ok()) return answer.status();
    if (!answer->has_value()) return std::optional<RecordView>();
    return std::optional<RecordView>(state.callbacks.fields(**answer));
  }
  static const Record* RowOf(const WriteResult<Record>& result) {
    return result.row.has_value() ? &*result.row : nullptr;
  }

  // `subject` is empty where it is the routing key.
  void Compare(const Key& key, RouteHandle&& route, domain::Side served_side, std::string&& routing_key,
               std::string&& subject, const ReadOptions& options,
               const absl::StatusOr<std::optional<Record>>& served);
  // From `*side`, if that shows to have the write of `options.after` by now, else from the authoritative
  // side, which `*side` is then.
  absl::StatusOr<std::optional<Record>> ReadAfterWrite(const Key& key, const RouteHandle& route,
                                                       const ReadOptions& options, domain::Side* side);
  absl::StatusOr<WriteResult<Record>> Apply(const Key& key, const Record* record,
                                            const WriteOptions& options);
  void ApplyAsync(Key key, std::optional<Record> record, WriteOptions options, WriteDone done);

  const StatePtr state_;
};

template <typename Key, typename Record>
class Migrator<Key, Record>::Builder {
 public:
  // `client` must outlive the Migrator; `migration` is one of ClientOptions::migrations.
  Builder(Client* client, absl::string_view migration) : client_(client), migration_(migration) {}

  // Required: the identity that is hashed into a bucket, 1 to 1,024 bytes.
  Builder& RoutingKey(RoutingKeyFn fn) { return Set(callbacks_.routing_key, std::move(fn)); }
  // Required.
  Builder& ReadOld(ReadFn fn) { return Set(callbacks_.on(domain::Side::kOld).read, std::move(fn)); }
  Builder& ReadNew(ReadFn fn) { return Set(callbacks_.on(domain::Side::kNew).read, std::move(fn)); }
  Builder& WriteOld(WriteFn fn) { return Set(callbacks_.on(domain::Side::kOld).write, std::move(fn)); }
  Builder& MirrorToNew(MirrorFn fn) { return Set(callbacks_.on(domain::Side::kNew).mirror, std::move(fn)); }
  // Required: what is compared.
  Builder& Fields(FieldsFn fn) { return Set(callbacks_.fields, std::move(fn)); }
  // Optional, for speed: true only of records that agree in every field; they match, and Fields is not asked.
  // Not an equality of identities: what it calls equal is never looked at again.
  Builder& Equal(EqualFn fn) { return Set(callbacks_.equal, std::move(fn)); }
  // Needed from CUTOVER on; until then they may be left out.
  Builder& WriteNew(WriteFn fn) { return Set(callbacks_.on(domain::Side::kNew).write, std::move(fn)); }
  Builder& MirrorToOld(MirrorFn fn) { return Set(callbacks_.on(domain::Side::kOld).mirror, std::move(fn)); }
  // Optional: the row as the side has it now, with its version, tombstones included. Repairs then copy the
  // current state instead of repeating the write that failed, and an authoritative write whose outcome is
  // unknown (it timed out, or the connection broke) is followed up, too.
  Builder& CurrentOld(CurrentFn fn) { return Set(callbacks_.on(domain::Side::kOld).current, std::move(fn)); }
  Builder& CurrentNew(CurrentFn fn) { return Set(callbacks_.on(domain::Side::kNew).current, std::move(fn)); }
  // How keys are written to the mirror journal and read back, perhaps by a later version of the service.
  // Required with a state directory (MigratorOptions::journal). Also keeps several writes of one record apart
  // from writes of several in the check of a slice.
  Builder& KeyCodec(EncodeKeyFn encode, DecodeKeyFn decode) {
    Set(callbacks_.encode_key, std::move(encode));
    return Set(callbacks_.decode_key, std::move(decode));
  }
  // Optional: whom a record belongs to, if a fault would hit all records of one together: the tenant of an
  // order, say. The gate then certifies by distinct tenants and counts an affected tenant once. Default: the
  // routing key, each record for itself. Don't change it in the middle of a migration.
  Builder& Subject(SubjectFn fn) { return Set(callbacks_.subject, std::move(fn)); }
  Builder& Options(MigratorOptions options) { return Set(options_, std::move(options)); }

  // Takes over what an earlier process left in the mirror journal. Errors: those of Client::Resolve;
  // INVALID_ARGUMENT names what is missing or out of range, also for the journal; FAILED_PRECONDITION: an
  // entry of the journal can't be decoded, or there are open ones and the journal is switched off. Call once.
  absl::StatusOr<std::unique_ptr<Migrator>> Build();

 private:
  template <typename T>
  Builder& Set(T& target, T value) {
    target = std::move(value);
    return *this;
  }

  Client* const client_;
  const std::string migration_;
  MigratorOptions options_;
  Callbacks callbacks_;
};

}  // namespace lockstep

#include "lockstep/internal/migrator_impl.h"  // IWYU pragma: keep
