// The kill loop: SIGKILL at random moments during administration and telemetry. After every restart no
// acknowledged change and no acknowledged count is missing, and at the end each has happened exactly once.
//
// LOCKSTEP_CRASH_COUNT kills (default 20); LOCKSTEP_SEED repeats the moments of a run (not the interleaving).
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "core/base/prng.h"
#include "tests/e2e/lockstepd_process.h"
#include "tests/store/temp_directory.h"
#include "tests/support/api_client.h"
#include "tests/support/http_client.h"
#include "tests/support/status_matchers.h"

namespace lockstep {
namespace {

using testing::ApiClient;
using testing::HttpGet;
using testing::IsOk;
using testing::Lockstepd;
using testing::MetricValue;
using testing::NameOf;
using testing::SampleMigration;

// A call that a kill cuts off is tried again soon.
constexpr absl::Duration kCallTimeout = absl::Seconds(2);
constexpr absl::Duration kLongestRound = absl::Milliseconds(120);
constexpr int kAdministrators = 2;
constexpr int kInstances = 2;

uint64_t NumberFromEnvironment(const char* name, uint64_t otherwise) {
  uint64_t number = 0;
  const char* text = std::getenv(name);
  return text != nullptr && absl::SimpleAtoi(text, &number) ? number : otherwise;
}

// What may happen instead of an answer while the server is killed. Anything else is a finding.
bool IsOutage(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) || absl::IsCancelled(status);
}

// Edits the description of one migration, "1", "2", ..., each edit under one request id until it succeeds.
class Administrator {
 public:
  Administrator(int number, const std::string& address)
      : id_(absl::StrCat("admin-", number)),
        first_request_(static_cast<uint64_t>(number + 1) << 32),
        api_(std::make_unique<ApiClient>(address)) {}

  // On a channel of its own: an old one takes its time to notice that the server is back.
  void Connect(const std::string& address) { api_ = std::make_unique<ApiClient>(address); }
  absl::Status Create() { return api_->Create(id_, SampleMigration()).status(); }

  // One attempt at the next edit. OK when it was acknowledged or the server was down.
  absl::Status Step() {
    const uint64_t edit = acknowledged_ + 1;
    v1::UpdateMigrationRequest request;
    request.mutable_migration()->set_name(NameOf(id_));
    request.mutable_migration()->set_description(absl::StrCat(edit));
    request.mutable_update_mask()->add_paths("description");
    request.set_request_id(testing::RequestId(first_request_ + edit));
    const auto updated = api_->Call(&v1::MigrationService::Stub::UpdateMigration, request, kCallTimeout);
    if (!updated.ok()) return IsOutage(updated.status()) ? absl::OkStatus() : updated.status();
    if (updated->description() != absl::StrCat(edit))
      return absl::InternalError("not the answer of this edit");
    acknowledged_ = edit;
    return absl::OkStatus();
  }

  // Acknowledged edits are there, at most the one under way besides, and each has left exactly one record.
  void Check() {
    const auto migration = api_->Get(id_);
    ASSERT_TRUE(IsOk(migration));
    uint64_t edits = 0;
    ASSERT_TRUE(migration->description() == "a sample" || absl::SimpleAtoi(migration->description(), &edits));
    EXPECT_GE(edits, acknowledged_);
    EXPECT_LE(edits, acknowledged_ + 1);
    v1::ListDecisionsRequest request;
    request.set_parent(NameOf(id_));
    request.set_page_size(1);
    const auto decisions = api_->Call(&v1::MigrationService::Stub::ListDecisions, request);
    ASSERT_TRUE(IsOk(decisions));
    ASSERT_EQ(decisions->decisions_size(), 1);
    EXPECT_EQ(decisions->decisions(0).name(), absl::StrCat(NameOf(id_), "/decisions/", edits + 1));
  }

  uint64_t acknowledged() const { return acknowledged_; }

 private:
  const std::string id_;
  const uint64_t first_request_;
  std::unique_ptr<ApiClient> api_;
  uint64_t acknowledged_ = 0;
};

// Reports batches of random sizes, each under its number until it is acknowledged.
class Reporter {
 public:
  Reporter(int number, const std::string& address, uint64_t seed)
      : instance_(absl::StrCat("instance-", number)),
        api_(std::make_unique<ApiClient>(address)),
        prng_(seed),
        next_size_(1 + prng_.Below(1000)) {}

  void Connect(const std::string& address) { api_ = std::make_unique<ApiClient>(address); }

  absl::Status Step() {
    const auto receipt =
        api_->Call(&v1::TelemetryService::Stub::ReportComparisons,
                   testing::SampleBatch(instance_, 1, sequence_, "load", next_size_), kCallTimeout);
    if (!receipt.ok()) return IsOutage(receipt.status()) ? absl::OkStatus() : receipt.status();
    acknowledged_ += next_size_;
    repeats_ += receipt->duplicate() ? 1 : 0;
    ++sequence_;
    next_size_ = 1 + prng_.Below(1000);
    return absl::OkStatus();
  }

  uint64_t acknowledged() const { return acknowledged_; }
  uint64_t under_way() const { return next_size_; }
  uint64_t repeats() const { return repeats_; }

 private:
  const std::string instance_;
  std::unique_ptr<ApiClient> api_;
  Prng prng_;
  uint64_t next_size_;
  uint64_t sequence_ = 1;
  uint64_t acknowledged_ = 0;
  uint64_t repeats_ = 0;
};

class CrashTest : public ::testing::Test {
 protected:
  double Counted() {
    return MetricValue(
        HttpGet(server_.http_port(), "/metrics").body,
        absl::StrCat("lockstep_comparisons_total{migration=\"", NameOf("load"), "\",outcome=\"match\"}"));
  }

  // Everybody works until `stop`; the first refusal that is no outage ends the test.
  template <typename Worker>
  void Work(Worker* worker, std::atomic<bool>* stop, std::vector<std::thread>* threads) {
    threads->emplace_back([this, worker, stop] {
      while (!*stop) {
        if (const absl::Status status = worker->Step(); !status.ok()) {
          if (!failed_.exchange(true)) failure_ = status.ToString();
          return;
        }
      }
    });
  }

  store::TempDirectory directory_;
  Lockstepd server_{
      {.directory = directory_.path(), .flags = {"--log-level=warning", "--gate-interval=50ms"}}};
  std::atomic<bool> failed_{false};
  std::string failure_;
};

TEST_F(CrashTest, NothingAcknowledgedIsLostOrDoubled) {
  const uint64_t kills = NumberFromEnvironment("LOCKSTEP_CRASH_COUNT", 20);
  const uint64_t seed = NumberFromEnvironment("LOCKSTEP_SEED", SystemSeed());
  RecordProperty("seed", absl::StrCat(seed));
  SCOPED_TRACE(absl::StrCat("LOCKSTEP_SEED=", seed));
  Prng prng(seed);
  ASSERT_TRUE(server_.Start()) << server_.Output();
  std::vector<std::unique_ptr<Administrator>> administrators;
  std::vector<std::unique_ptr<Reporter>> reporters;
  for (int i = 0; i < kAdministrators; ++i) {
    administrators.push_back(std::make_unique<Administrator>(i, server_.address()));
    ASSERT_TRUE(IsOk(administrators.back()->Create()));
  }
  for (int i = 0; i < kInstances; ++i) {
    reporters.push_back(std::make_unique<Reporter>(i, server_.address(), prng.Next()));
  }
  ApiClient api(server_.address());
  ASSERT_TRUE(IsOk(api.Create("load", SampleMigration())));

  for (uint64_t kill = 1; kill <= kills; ++kill) {
    SCOPED_TRACE(absl::StrCat("kill ", kill));
    std::atomic<bool> stop{false};
    std::vector<std::thread> threads;
    for (auto& administrator : administrators) Work(administrator.get(), &stop, &threads);
    for (auto& reporter : reporters) Work(reporter.get(), &stop, &threads);
    absl::SleepFor(kLongestRound * prng.Unit());  // the random moment
    server_.Kill();
    stop = true;
    for (std::thread& thread : threads) thread.join();
    ASSERT_FALSE(failed_) << failure_ << "\n" << server_.Output();

    ASSERT_TRUE(server_.Start()) << server_.Output();
    for (auto& reporter : reporters) reporter->Connect(server_.address());
    for (auto& administrator : administrators) {
      administrator->Connect(server_.address());
      administrator->Check();
    }
    uint64_t acknowledged = 0, under_way = 0;
    for (const auto& reporter : reporters) {
      acknowledged += reporter->acknowledged();
      under_way += reporter->under_way();
    }
    const double counted = Counted();
    EXPECT_GE(counted, static_cast<double>(acknowledged));
    EXPECT_LE(counted, static_cast<double>(acknowledged + under_way));
    if (HasFailure()) break;
  }

  // What was cut off comes to its end; then the books are exact.
  uint64_t acknowledged = 0, edits = 0, repeats = 0;
  for (auto& administrator : administrators) {
    const uint64_t goal = administrator->acknowledged() + 1;
    while (administrator->acknowledged() < goal) ASSERT_TRUE(IsOk(administrator->Step()));
    administrator->Check();
    edits += administrator->acknowledged();
  }
  for (auto& reporter : reporters) {
    const uint64_t before = reporter->acknowledged();
    while (reporter->acknowledged() == before) ASSERT_TRUE(IsOk(reporter->Step()));
    acknowledged += reporter->acknowledged();
    repeats += reporter->repeats();
  }
  EXPECT_EQ(Counted(), static_cast<double>(acknowledged));
  EXPECT_GT(edits, 0u);
  std::printf("%llu kills, %llu edits, %llu comparisons, %llu batches recognised as repeats\n",
              static_cast<unsigned long long>(kills), static_cast<unsigned long long>(edits),
              static_cast<unsigned long long>(acknowledged), static_cast<unsigned long long>(repeats));
}

}  // namespace
}  // namespace lockstep
