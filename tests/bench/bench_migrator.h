// A Migrator whose callbacks do next to nothing, so that what it costs beside them can be told.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/check.h"
#include "core/domain/bucketing.h"
#include "lockstep/executor.h"
#include "lockstep/migrator.h"
#include "tests/bench/bench_client.h"

namespace lockstep::bench {

// A record is a number; its key is the index of its routing key in Keys().
using BenchMigrator = Migrator<uint32_t, int64_t>;

inline std::string RoutingKeyOf(const uint32_t& index) { return Keys()[index % kInputs]; }

inline absl::StatusOr<std::optional<int64_t>> ReadNumber(const uint32_t& index, const ReadContext&) {
  return std::optional<int64_t>(index);
}

inline absl::StatusOr<WriteResult<int64_t>> WriteNumber(const uint32_t& index, const int64_t* number,
                                                        const WriteContext&) {
  return WriteResult<int64_t>{.version = index + 1, .row = *number};
}

inline absl::Status MirrorNumber(const uint32_t&, const int64_t*, Version, const WriteContext&) {
  return absl::OkStatus();
}

inline std::unique_ptr<BenchMigrator> MakeMigrator(Client* client, absl::string_view migration) {
  auto made = BenchMigrator::Builder(client, migration)
                  .RoutingKey(RoutingKeyOf)
                  .ReadOld(ReadNumber)
                  .ReadNew(ReadNumber)
                  .WriteOld(WriteNumber)
                  .WriteNew(WriteNumber)
                  .MirrorToOld(MirrorNumber)
                  .MirrorToNew(MirrorNumber)
                  .Equal([](const int64_t& a, const int64_t& b) { return a == b; })
                  .Fields([](const int64_t& number) {
                    return RecordView{{"number", number}};
                  })
                  .Build();
  LOCKSTEP_CHECK(made.ok(), std::string(made.status().message()).c_str());
  return *std::move(made);
}

// `comparison_weight` of 100,000 reads are compared.
inline BenchMigration MigrationAt(domain::Stage stage, std::string name, uint32_t comparison_weight) {
  constexpr uint32_t kReadWeight = 5000;  // 5 % of keys, in CANARY_READ
  domain::RoutingState state = domain::StateOfStage(stage, kReadWeight);
  state.salt_seed = domain::SaltSeed(name);
  state.comparison_weight = comparison_weight;
  return {std::move(name), std::move(state)};
}

// Runs what was submitted when it is told to, on the thread that tells: all work of a read is then in that
// thread's time. For one thread; delays are ignored.
class LaterExecutor final : public Executor {
 public:
  void Submit(absl::Duration, Task task) override { tasks_.push_back(std::move(task)); }
  void RunAll() {
    while (!tasks_.empty()) {
      running_.swap(tasks_);
      for (Task& task : running_) task();
      running_.clear();
    }
  }

 private:
  std::vector<Task> tasks_, running_;
};

}  // namespace lockstep::bench
