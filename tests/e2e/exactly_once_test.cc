// Exactly-once totals: three service processes count 1,000,000 comparisons while the server is killed and
// started again under them; in the end the server holds what they counted, outcome by outcome.
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/domain/window_stats.h"
#include "tests/e2e/lockstepd_process.h"
#include "tests/store/temp_directory.h"
#include "tests/support/api_client.h"
#include "tests/support/http_client.h"
#include "tests/support/status_matchers.h"

namespace lockstep {
namespace {

using testing::ApiClient;
using testing::Eventually;
using testing::IsOk;
using testing::MetricValue;
using testing::NameOf;

constexpr int kProcesses = 3;
constexpr uint64_t kComparisons = 1'000'000;
constexpr int kKills = 6;

class ExactlyOnceTest : public ::testing::Test {
 protected:
  std::string Page() { return testing::HttpGet(server_.http_port(), "/metrics").body; }
  std::string Sample(const std::string& outcome) {
    return absl::StrCat("lockstep_comparisons_total{migration=\"", NameOf("load"), "\",outcome=\"", outcome,
                        "\"}");
  }
  double Counted() { return MetricValue(Page(), Sample("match")); }

  // Adds up the last line of a process's output; false when there is none.
  static bool AddTotals(const std::string& output, std::map<std::string, uint64_t>* totals) {
    const size_t at = output.rfind("total ");
    if (at == std::string::npos) return false;
    const std::vector<std::string> words = absl::StrSplit(output.substr(at + 6), ' ');
    for (size_t i = 0; i + 1 < words.size(); i += 2) {
      uint64_t count = 0;
      if (!absl::SimpleAtoi(words[i + 1], &count)) return false;
      (*totals)[words[i]] += count;
    }
    return true;
  }

  store::TempDirectory directory_;
  testing::Lockstepd server_{{.directory = directory_.path(), .flags = {"--log-level=warning"}}};
};

TEST_F(ExactlyOnceTest, TheServerHoldsWhatTheProcessesCounted) {
  ASSERT_TRUE(server_.Start()) << server_.Output();
  {
    ApiClient api(server_.address());
    ASSERT_TRUE(IsOk(api.Create("load", testing::SampleMigration())));
    ASSERT_TRUE(IsOk(api.Start("load")));
    ASSERT_TRUE(IsOk(api.Advance("load")));  // SHADOW_READ
  }
  std::vector<std::unique_ptr<testing::ChildProcess>> processes;
  for (int i = 0; i < kProcesses; ++i) {
    const std::string instance = absl::StrCat("load-", i);
    processes.push_back(std::make_unique<testing::ChildProcess>(
        std::vector<std::string>{SDK_LOAD_PATH, server_.address(), NameOf("load"), instance,
                                 absl::StrCat((kComparisons + kProcesses - 1) / kProcesses)},
        testing::ChildOptions{.output = absl::StrCat(directory_.path(), "/", instance)}));
  }
  const auto running = [&] {
    int count = 0;
    for (auto& process : processes) count += process->Running() ? 1 : 0;
    return count;
  };
  int kills = 0;
  while (kills < kKills && running() > 0) {
    // Once more has been counted since the last start, so that every round has something to lose.
    const double before = Counted();
    Eventually([&] { return Counted() > before || running() == 0; });
    if (running() == 0) break;
    server_.Kill();
    ++kills;
    ASSERT_TRUE(server_.Start()) << server_.Output();
  }
  EXPECT_GE(kills, 3) << "the processes ended before the server was killed often enough";

  std::map<std::string, uint64_t> totals;
  for (auto& process : processes) {
    EXPECT_EQ(process->Wait(), 0) << process->Output();
    EXPECT_TRUE(AddTotals(process->Output(), &totals)) << process->Output();
  }
  const std::string page = Page();
  uint64_t compared = 0;
  for (const domain::ComparisonOutcomeInfo& info : domain::kComparisonOutcomes) {
    const uint64_t count = totals[std::string(info.name)];
    compared += count;
    EXPECT_EQ(MetricValue(page, Sample(std::string(info.name))), static_cast<double>(count)) << info.name;
  }
  EXPECT_GE(compared, kComparisons);
  EXPECT_EQ(totals["dropped"], 0u);
  EXPECT_EQ(MetricValue(page, absl::StrCat("lockstep_reads_total{migration=\"", NameOf("load"),
                                           "\",side=\"old\",outcome=\"ok\"}")),
            static_cast<double>(totals["reads"]));
  EXPECT_EQ(MetricValue(page, absl::StrCat("lockstep_field_mismatches_total{migration=\"", NameOf("load"),
                                           "\",field=\"name\"}")),
            static_cast<double>(totals["mismatch"]));
  EXPECT_EQ(server_.Stop(), 0) << server_.Output();
  std::printf("%d kills, %llu comparisons, %llu reconnects\n", kills,
              static_cast<unsigned long long>(compared),
              static_cast<unsigned long long>(totals["reconnects"]));
}

}  // namespace
}  // namespace lockstep
