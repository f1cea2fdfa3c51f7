// One life of a process, from a start to a crash: everything that its memory holds.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/sim/process.h"

namespace lockstep::sim {

struct Record {
  int64_t value = 0;
};
using Orders = Migrator<Key, Record>;

class Life final : public NetworkClient, public Executor, public std::enable_shared_from_this<Life> {
 public:
  explicit Life(Process* process) : process_(process), commons_(process->commons_) {}
  ~Life() override;

  // Makes the client. Once.
  void Begin(std::shared_ptr<StateStorage> storage, uint64_t seed);
  // The crash. `journal_survives`: what it left half done will be made good.
  void End(bool journal_survives);

  void Write(Key key, std::optional<int64_t> value);
  void Read(Key key, const ReadToken* after);
  // Takes nothing any more, waits a little for what is under way, and gives the enrolment up or keeps it.
  void Shutdown(Departure departure);
  std::string Unsettled() const;
  bool alive() const { return alive_; }
  bool stopping() const { return stopping_; }
  Client& client() { return *client_; }

  // NetworkClient.
  int index() const override { return process_->config_.index; }
  void Deliver(std::function<void()> deliver) override;
  // Executor.
  void Submit(absl::Duration delay, Task task) override;

 private:
  struct ReadOp {
    domain::Side side = domain::Side::kOld;
    uint64_t epoch = 0;
    Row seen;
    bool served = false;
    bool store_failed = false;
    bool routed_by_stage = false;  // neither stale nor with a token
    int64_t acting = 0;
  };
  struct Running {
    Fiber* fiber = nullptr;
    ReadOp* read = nullptr;  // that it makes; null: none
  };
  struct StoreAnswer {
    absl::Status status;
    Row row;
  };

  const MigratorOptions Options() const;
  std::unique_ptr<Orders> MakeOrders();
  Broken broken() const { return commons_->options.broken; }
  const DriftingClock& clock() const { return process_->clock_; }
  void Trace(const std::string& line) const;

  // Events of this life: dropped when it is over, late when it stands still.
  void Event(const std::function<void()>& run);
  void After(absl::Duration simulated, std::function<void()> run);
  void RunClient();
  void StartFiber(Task body);
  void ResumeFiber(Fiber* fiber);
  void RunTask(uint64_t id);
  void WaitForTheEnd(Departure departure, absl::Time patience);

  // A call to one of the stores: a request, an effect there, and an answer, each in its time.
  StoreAnswer Call(domain::Side side, Key key, absl::Time deadline, std::function<StoreAnswer()> effect);
  absl::Duration RandomStep();

  // The service's code.
  absl::StatusOr<std::optional<Record>> OnRead(domain::Side side, Key key, const ReadContext& context);
  absl::StatusOr<WriteResult<Record>> OnCurrent(domain::Side side, Key key, const ReadContext& context);
  absl::StatusOr<WriteResult<Record>> OnWrite(domain::Side side, Key key, const Record* record,
                                              const WriteContext& context);
  absl::Status OnMirror(domain::Side side, Key key, const Record* row, Version version,
                        const WriteContext& context);
  StoreAnswer ApplyMirror(domain::Side side, Key key, const Row& row);
  void WriteThoughHeld(Key key, std::optional<int64_t> value);

  void Act(WriteOp& op, const WriteContext& context);
  void EndWrite(const std::shared_ptr<WriteOp>& op, const absl::StatusOr<WriteResult<Record>>& result);
  bool Excusable(const absl::Status& status, bool store_failed, absl::Time deadline) const;
  // The read that the present fiber makes; null: none.
  ReadOp* PresentRead();
  void SetPresentRead(ReadOp* read) { fibers_[Fiber::Current()->id()].read = read; }
  // For Broken::kMirrorFirst.
  void MirrorFirst(domain::Side side, Key key, const Record* record, const WriteContext& context);

  Process* const process_;
  Commons* const commons_;
  bool alive_ = true;
  bool ready_once_ = false;
  bool stopping_ = false;
  std::unique_ptr<Client> client_;
  std::unique_ptr<Orders> orders_;
  uint64_t run_number_ = 0;  // of the client's next turn; earlier ones are void
  uint64_t next_id_ = 1;
  std::map<uint64_t, Task> tasks_;
  std::map<uint64_t, Running> fibers_;                   // alive, in the order of their making
  std::map<uint64_t, std::function<void()>> in_flight_;  // effects on their way to a store
  std::map<std::string, std::shared_ptr<WriteOp>> ops_;  // by idempotency key
  int reads_under_way_ = 0;
};

}  // namespace lockstep::sim
