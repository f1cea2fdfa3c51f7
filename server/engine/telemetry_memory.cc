#include "server/engine/telemetry_memory.h"

#include <cstdint>

namespace lockstep::engine {
namespace {

constexpr size_t kSlotsBytes = domain::SlotCounts::kSlots * sizeof(uint64_t);
constexpr size_t kLatencyBytes = domain::LatencySketch::kBucketCount * sizeof(uint64_t);
constexpr size_t kMapNodeBytes = 64;  // besides its value
constexpr size_t kSampleTextBytes = 512;

size_t MemoryOf(const domain::SubjectTrials& trials) {
  return trials.distinct.registers().size() + (trials.slots.empty() ? 0 : kSlotsBytes);
}

size_t MemoryOf(const domain::SubjectEvents& events) {
  return events.affected().size() * kMapNodeBytes + (events.slots.empty() ? 0 : kSlotsBytes);
}

size_t MemoryOf(const domain::TelemetryDelta& delta) {
  size_t bytes = sizeof(delta) + delta.migration.size();
  for (const domain::ArmStats& arm : delta.stats.arms) bytes += arm.latency.empty() ? 0 : kLatencyBytes;
  const domain::SubjectStats& subjects = delta.stats.subjects;
  for (const domain::SubjectTrials& reads : subjects.reads) bytes += MemoryOf(reads);
  for (const domain::SubjectEvents& errors : subjects.errors) bytes += MemoryOf(errors);
  bytes += MemoryOf(subjects.compared) + MemoryOf(subjects.mismatched) + MemoryOf(subjects.new_failed_only) +
           MemoryOf(subjects.old_failed_only);
  for (const auto& [field, counts] : delta.stats.fields()) {
    bytes += kMapNodeBytes + field.size() + sizeof(counts);
  }
  return bytes + delta.samples.size() * (sizeof(domain::MismatchSample) + kSampleTextBytes);
}

}  // namespace

size_t MemoryOf(const domain::TelemetryBatch& batch) {
  size_t bytes = sizeof(batch) + batch.instance_id.size();
  for (const domain::TelemetryDelta& delta : batch.deltas) bytes += MemoryOf(delta);
  return bytes;
}

}  // namespace lockstep::engine
