#include "client/cli/render_fleet.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/table.h"
#include "client/cli/text.h"
#include "core/base/check.h"
#include "core/domain/records.h"
#include "core/wire/routing.h"

namespace lockstep::cli {
namespace {

// "✓ live, 12s left". Ages are by this machine's clock, the moment itself is by the server's.
Cell LeaseCell(const v1::Instance& instance, const RenderOptions& options) {
  const auto cell = [&](Glyph glyph, Tone tone, absl::string_view text) {
    return Cell(absl::StrCat(GlyphText(options.style, glyph), " ", text), tone);
  };
  std::string left;
  std::string ago;
  if (instance.has_lease_expire_time()) {
    const absl::Time end = FromProto(instance.lease_expire_time());
    left = absl::StrCat(", ", ShortDuration(end - options.now), " left");
    ago = absl::StrCat(" for ", ShortDuration(options.now - end));
  }
  switch (instance.lease()) {
    case v1::LEASE_STATE_LIVE:
      return cell(Glyph::kDone, Tone::kGood, "live" + left);
    case v1::LEASE_STATE_EXPIRED:
      return cell(Glyph::kFailed, Tone::kBad, "expired" + ago);
    case v1::LEASE_STATE_DISCONNECTED:
      return cell(Glyph::kWarning, Tone::kWaiting, "disconnected" + left);
    case v1::LEASE_STATE_UNSPECIFIED:
    case v1::LeaseState_INT_MIN_SENTINEL_DO_NOT_USE_:
    case v1::LeaseState_INT_MAX_SENTINEL_DO_NOT_USE_:
      break;
  }
  return instance.connected() ? cell(Glyph::kDone, Tone::kGood, "connected")
                              : cell(Glyph::kWarning, Tone::kWaiting, "gone");
}

std::string PolicyText(v1::LeasePolicy policy) {
  return policy == v1::LEASE_POLICY_UNSPECIFIED ? "" : EnumName(*v1::LeasePolicy_descriptor(), policy);
}

// What it still works on; empty = nothing that it told of.
std::string PinsText(const v1::Instance& instance) {
  const auto status = wire::InstanceStatusFromProto(instance.status());
  return status.ok() ? domain::DescribeStatus(*status) : "?";
}

std::string Milliseconds(absl::Duration duration) {
  return absl::StrFormat("%.1f ms", absl::ToDoubleMilliseconds(duration));
}

}  // namespace

std::string RenderInstances(const std::vector<v1::Instance>& instances, const RenderOptions& options) {
  std::vector<std::string> headers = {"INSTANCE", "SERVICE", "VERSION", "EPOCH",   "LAG",
                                      "LEASE",    "POLICY",  "PINS",    "REJECTED"};
  if (options.wide) headers.insert(headers.end(), {"SENT", "ACCEPTED", "DELAY", "SEEN", "ENROLLED (UTC)"});
  Table table(std::move(headers));
  for (const v1::Instance& instance : instances) {
    std::vector<Cell> row = {
        instance.instance_id(),
        instance.service(),
        instance.version(),
        absl::StrCat(instance.acknowledged_epoch()),
        Cell(absl::StrCat(instance.lag()), instance.lag() > 0 ? Tone::kWaiting : Tone::kPlain),
        LeaseCell(instance, options),
        PolicyText(instance.lease_policy()),
        PinsText(instance),
        Cell(instance.last_nack(), Tone::kBad)};
    if (options.wide) {
      row.push_back(absl::StrCat(instance.sent_epoch()));
      row.push_back(absl::StrCat(instance.accepted_epoch()));
      row.push_back(instance.has_accept_delay() ? Milliseconds(FromProto(instance.accept_delay())) : "");
      row.push_back(instance.has_last_seen_time() ? Age(instance.last_seen_time(), options.now) + " ago"
                                                  : "");
      row.push_back(instance.has_enrol_time() ? UtcTime(instance.enrol_time()) : "");
    }
    table.AddRow(std::move(row));
  }
  return table.empty() ? "" : table.ToString(options.style);
}

std::vector<FenceWaitGroup> GroupFenceWaits(const v1::Migration& migration) {
  std::vector<FenceWaitGroup> groups;
  for (const v1::FenceWait& wait : migration.waiting_for()) {
    auto group = std::find_if(groups.begin(), groups.end(), [&](const FenceWaitGroup& g) {
      return g.reason == wait.reason() && g.unblock == wait.unblock();
    });
    if (group == groups.end()) {
      group = groups.insert(group, {wait.reason(), wait.unblock(), {}});
    }
    group->waits.push_back(wait);
  }
  return groups;
}

std::string DescribeWaitedFor(const FenceWaitGroup& group) {
  constexpr size_t kNamed = 3;
  std::vector<std::string> names;
  for (const v1::FenceWait& wait : group.waits) {
    if (names.size() == kNamed) break;
    names.push_back(wait.instance_id());
  }
  std::string text = absl::StrJoin(names, ", ");
  if (group.waits.size() > kNamed) absl::StrAppend(&text, " and ", group.waits.size() - kNamed, " more");
  return text;
}

uint32_t WaitingForCount(const v1::Migration& migration) {
  // Servers of earlier versions don't count.
  return std::max(migration.waiting_for_count(), static_cast<uint32_t>(migration.waiting_for_size()));
}

std::string RenderPending(const v1::Migration& migration, const RenderOptions& options) {
  if (!migration.has_pending_routing()) return "";
  std::string out = absl::StrCat("\n", Paint(options.style, Tone::kStrong, "Pending"), "\n");
  const std::string title = absl::StrCat(GlyphText(options.style, Glyph::kWaiting), " WAITS");
  absl::StrAppend(&out, "  ", Paint(options.style, Tone::kWaiting, title), "  to reach ",
                  DescribeRouting(migration.pending_routing()));
  if (migration.has_pending_since())
    absl::StrAppend(&out, ", for ", Age(migration.pending_since(), options.now));
  absl::StrAppend(&out, "\n");
  const auto add = [&](absl::string_view name, const std::string& value) {
    if (value.empty()) return;
    absl::StrAppend(&out, "    ", Paint(options.style, Tone::kFaint, absl::StrFormat("%-7s", name)), "  ",
                    Printable(value), "\n");
  };
  for (const FenceWaitGroup& group : GroupFenceWaits(migration)) {
    add("because", group.reason);
    add("unblock", group.unblock);
    Table table;
    for (const v1::FenceWait& wait : group.waits) {
      table.AddRow({Cell(wait.instance_id(), Tone::kWaiting), wait.service(),
                    absl::StrCat("may act on epoch ", wait.epoch()),
                    wait.has_since() ? absl::StrCat("in the way for ", Age(wait.since(), options.now)) : "",
                    wait.pinned_by().empty() ? "" : absl::StrCat("pinned by ", wait.pinned_by())});
    }
    absl::StrAppend(&out, table.ToString(options.style, "      "));
  }
  const uint32_t unnamed = WaitingForCount(migration) - static_cast<uint32_t>(migration.waiting_for_size());
  if (unnamed > 0) absl::StrAppend(&out, "    and ", unnamed, " more\n");
  return out;
}

DrillReport JudgeDrill(std::string migration, uint64_t epoch, const std::vector<v1::Instance>& instances) {
  DrillReport report{.migration = std::move(migration), .epoch = epoch, .enrolled = instances.size()};
  for (const v1::Instance& instance : instances) {
    if (instance.accepted_epoch() < epoch) {
      report.missing.push_back(instance);
      continue;
    }
    ++report.following;
    // The delay of a later epoch says nothing about this one.
    if (instance.accepted_epoch() == epoch && instance.has_accept_delay()) {
      report.delays.push_back(FromProto(instance.accept_delay()));
    }
  }
  std::sort(report.delays.begin(), report.delays.end());
  return report;
}

absl::Duration DelayQuantile(const std::vector<absl::Duration>& delays, double share) {
  LOCKSTEP_CHECK(!delays.empty() && share > 0 && share <= 1, "a quantile is one of the values");
  const auto rank = static_cast<size_t>(std::ceil(share * static_cast<double>(delays.size())));
  return delays[std::max<size_t>(rank, 1) - 1];
}

std::string RenderDrill(const DrillReport& report, const RenderOptions& options) {
  const bool all = report.missing.empty();
  std::string out =
      absl::StrCat(PaintCell({absl::StrCat(GlyphText(options.style, all ? Glyph::kDone : Glyph::kFailed),
                                           all ? " FOLLOWED" : " MISSING"),
                              all ? Tone::kGood : Tone::kBad},
                             options.style),
                   "  ", report.migration, ": ", report.following, " of ", report.enrolled,
                   " instances act on epoch ", report.epoch, "\n");
  if (!report.delays.empty()) {
    Table table;
    for (const auto& [name, share] : {std::pair{"p50", 0.5}, {"p99", 0.99}, {"max", 1.0}}) {
      table.AddRow({Cell(name, Tone::kFaint), Milliseconds(DelayQuantile(report.delays, share))});
    }
    absl::StrAppend(&out, table.ToString(options.style, "  "));
  }
  if (!all) absl::StrAppend(&out, RenderInstances(report.missing, options));
  return out;
}

}  // namespace lockstep::cli
