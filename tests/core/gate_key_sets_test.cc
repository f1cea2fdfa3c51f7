// Sets of records or customers, small or large, that fail as a whole or in part: each is observed again and
// again, and soon all have had their first event.
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/core/gate_windows.h"

namespace lockstep::domain {
namespace {

constexpr uint64_t kSeed = 512;
constexpr uint64_t kSalt = 7;

// Observations of one subject in one bucket.
struct Seen {
  uint64_t observed = 0;
  uint64_t bad = 0;
};

uint64_t HashOf(uint64_t salt, uint64_t subject) { return SubjectHash(salt, absl::StrCat("key-", subject)); }

void AddTrials(uint64_t hash, uint64_t count, SubjectTrials& trials) {
  if (count == 0) return;
  trials.distinct.Add(hash);
  trials.slots.Add(SlotCounts::SlotOf(hash), count);
}

// Under the id that every instance gives the subject.
void AddEvents(uint64_t hash, uint64_t count, SubjectEvents& events) {
  events.slots.Add(SlotCounts::SlotOf(hash), count);
  events.AddAffected(SubjectHash(42, absl::StrCat(hash)), count);
}

// What two instances report of comparisons, each of every other subject.
WindowStats Comparisons(uint64_t subjects, const std::function<Seen(uint64_t)>& seen, uint64_t salt = kSalt) {
  WindowStats whole;
  for (const uint64_t instance : {0u, 1u}) {
    WindowStats part;
    for (uint64_t subject = instance; subject < subjects; subject += 2) {
      const Seen comparisons = seen(subject);
      part.comparison(ComparisonOutcome::kMismatch) += comparisons.bad;
      part.comparison(ComparisonOutcome::kMatch) += comparisons.observed - comparisons.bad;
      AddTrials(HashOf(salt, subject), comparisons.observed, part.subjects.compared);
      AddEvents(HashOf(salt, subject), comparisons.bad, part.subjects.mismatched);
    }
    EXPECT_TRUE(whole.Merge(part).ok());
  }
  return whole;
}

// Reads by subject, every fifth of which new serves.
constexpr uint64_t kNewIsOneIn = 5;
WindowStats Reads(uint64_t subjects, const std::function<Seen(uint64_t)>& seen) {
  WindowStats window;
  for (uint64_t subject = 0; subject < subjects; ++subject) {
    const size_t arm = subject % kNewIsOneIn == 0 ? 1 : 0;
    const Seen reads = seen(subject);
    window.arms[arm].requests += reads.observed;
    window.arms[arm].errors += reads.bad;
    AddTrials(HashOf(kSalt, subject), reads.observed, window.subjects.reads[arm]);
    AddEvents(HashOf(kSalt, subject), reads.bad, window.subjects.errors[arm]);
  }
  return window;
}

WindowStats OnlyNewFails(uint64_t subjects, uint64_t each) {
  WindowStats window = PairedFailures(subjects * each, 0, subjects * each);
  for (uint64_t subject = 0; subject < subjects; ++subject) {
    AddEvents(HashOf(kSalt, subject), each, window.subjects.new_failed_only);
  }
  return window;
}

// Nothing is compared at the first step, and the bucket in which the second begins is still of the first.
MigrationPlan ShadowPlan(const Check& check) {
  MigrationPlan plan;
  plan.steps = {{Stage::kDualWrite, 0, {}, {}}, {Stage::kShadowRead, 0, {}, {check}}};
  return plan;
}

// After how many buckets of the step it is rolled back; nothing if it still holds in the end. ADVANCE is a
// failure.
std::optional<int> RolledBackAfter(GateRun& run, int buckets, const std::function<WindowStats(int)>& bucket) {
  for (int i = 0; i < buckets; ++i) {
    run.Add(bucket(i));
    const Verdict verdict = run.EvaluateVerdict();
    EXPECT_NE(VerdictName(verdict), VerdictName(Verdict::kAdvance)) << run.Evaluate().sentence;
    if (verdict == Verdict::kRollBack) return i + 1;
  }
  return std::nullopt;
}

Seen AllBad(uint64_t each) { return {each, each}; }

TEST(GateKeySetsTest, WhatFailsAsAWholeIsRolledBackWhateverItsSizeAndWheneverItBegan) {
  for (const double budget : {.001, .05, .3}) {
    for (const uint64_t subjects : {5u, 10u, 100u, 250u, 256u, 257u, 500u, 512u, 5'000u}) {
      for (const uint64_t each : {1u, 20u, 100u}) {
        const WindowStats bucket = Comparisons(subjects, [&](uint64_t) { return AllBad(each); });
        for (const int before : {0, 1, 100}) {
          SCOPED_TRACE(absl::StrCat(subjects, " subjects, each ", each, " times, budget ", budget, ", ",
                                    before, " buckets before the step"));
          GateRun run(ShadowPlan(MismatchCheck(budget)));
          for (int i = 0; i < before; ++i) run.Add(bucket);
          run.BeginStep(1);
          // How the events cluster is learnt from 64 of them; 5 subjects say little against 30 %.
          const auto after = RolledBackAfter(run, 20, [&](int) { return bucket; });
          ASSERT_TRUE(after) << run.Evaluate().sentence;
          EXPECT_LE(*after, subjects * each < 64 ? 15 : 2);
        }
      }
    }
  }
}

// Half of the events come without a name, and by chance no subject is in one of the 64 slots, so that these
// seem to be of some 260 subjects.
TEST(GateKeySetsTest, AnEmptySlotHidesNothing) {
  int with_empty_slot = 0;
  for (uint64_t salt = 0; salt < 300; ++salt) {
    const WindowStats bucket = Comparisons(
        500, [](uint64_t) { return AllBad(100); }, salt);
    bool empty = false;
    for (size_t i = 0; i < SlotCounts::kSlots; ++i) {
      empty = empty || bucket.subjects.mismatched.slots[i] == 0;
    }
    if (!empty) continue;
    ++with_empty_slot;
    GateRun run(ShadowPlan(MismatchCheck(.05)), {bucket});
    run.BeginStep(1);
    EXPECT_LE(RolledBackAfter(run, 20, [&](int) { return bucket; }).value_or(99), 1) << "salt " << salt;
  }
  EXPECT_GT(with_empty_slot, 0);
}

TEST(GateKeySetsTest, ForOneBucketOnly) {
  for (const uint64_t subjects : {100u, 256u, 257u, 512u, 5'000u}) {
    for (const bool heals : {false, true}) {
      SCOPED_TRACE(absl::StrCat(subjects, heals ? " subjects, then clean" : " subjects, then silence"));
      const WindowStats bad = Comparisons(subjects, [](uint64_t) { return AllBad(20); });
      const WindowStats good = Comparisons(subjects, [](uint64_t) { return Seen{20, 0}; });
      GateRun in_step(ShadowPlan(MismatchCheck(.05)));
      in_step.BeginStep(1);
      EXPECT_EQ(RolledBackAfter(in_step, 1, [&](int) { return bad; }), 1);
      // In the bucket before the step: no bet was placed, so nothing is won. Nor does it pass, as all of
      // these have been seen to differ.
      GateRun before(ShadowPlan(MismatchCheck(.05)), {bad});
      before.BeginStep(1);
      EXPECT_EQ(RolledBackAfter(before, 100, [&](int) { return heals ? good : WindowStats(); }),
                std::nullopt);
      EXPECT_LT(before.Evaluate().checks[0].log_evidence_advance, 0);
    }
  }
}

TEST(GateKeySetsTest, FromTheMiddleOfAStep) {
  for (const uint64_t subjects : {100u, 257u, 512u}) {
    // Mismatches well within the budget: all subjects have had one long before.
    for (const double noise : {0., .001, .01}) {
      for (const double share : {.5, 1.}) {
        SCOPED_TRACE(absl::StrCat(subjects, " subjects, noise ", noise, ", then ", share, ", seed ", kSeed));
        std::mt19937_64 random(kSeed);
        std::binomial_distribution<uint64_t> few(100, noise);
        // A second check that can't pass yet keeps the step from advancing.
        MigrationPlan plan = PlanWith({MismatchCheck(.05), MirrorCheck()});
        GateRun run(plan);
        const auto bucket = [&](bool broken) {
          return Comparisons(subjects, [&](uint64_t subject) {
            return broken && static_cast<double>(subject) < share * static_cast<double>(subjects)
                       ? AllBad(100)
                       : Seen{100, few(random)};
          });
        };
        ASSERT_EQ(RolledBackAfter(run, 240, [&](int) { return bucket(false); }), std::nullopt);
        EXPECT_LE(RolledBackAfter(run, 60, [&](int) { return bucket(true); }).value_or(99),
                  share < 1 ? 15 : 4)
            << run.Evaluate().sentence;
      }
    }
  }
}

TEST(GateKeySetsTest, AfterRestartsOfTheEvidence) {
  const WindowStats bucket = Comparisons(512, [](uint64_t) { return AllBad(100); });
  for (const uint32_t restarts : {0u, 3u, 20u}) {
    GateRun run(ShadowPlan(MismatchCheck(.05)), EvidenceEpoch{.restarts = restarts, .start = kGateStart}, 0);
    run.Add(bucket);
    run.BeginStep(1);
    EXPECT_LE(RolledBackAfter(run, 5, [&](int) { return bucket; }).value_or(99), 1) << restarts;
  }
}

// One or two records or customers, however many of the observations are theirs, among many that are well:
// also where all have had an event, so that nothing counts for the first time any more.
TEST(GateKeySetsTest, FewBrokenOnesAreNoReason) {
  for (const uint64_t broken : {1u, 2u}) {
    for (const uint64_t weight : {1u, 50u, 1'000u}) {
      for (const double noise : {0., .002}) {
        for (const int from : {0, 60}) {
          SCOPED_TRACE(absl::StrCat(broken, " broken, each ", weight, " times as often, noise ", noise,
                                    ", from bucket ", from, ", seed ", kSeed));
          std::mt19937_64 random(kSeed);
          std::binomial_distribution<uint64_t> few(20, noise);
          GateRun run(PlanWith({MismatchCheck(.01), MirrorCheck()}));
          EXPECT_EQ(
              RolledBackAfter(
                  run, 300,
                  [&](int number) {
                    return Comparisons(500, [&](uint64_t subject) {
                      return subject < broken && number >= from ? AllBad(20 * weight) : Seen{20, few(random)};
                    });
                  }),
              std::nullopt)
              << run.Evaluate().sentence;
        }
      }
    }
  }
}

// New fails for part of its subjects, always; the others fail now and then, as do old's. Every subject has
// had an error after a while, on either side, and yet the sides are not alike.
TEST(GateKeySetsTest, ErrorsOfPartOfTheSubjectsNeverPass) {
  constexpr uint64_t kSubjects = 500;
  for (const uint64_t each : {2u, 20u, 100u}) {
    for (const double noise : {.0001, .001, .01}) {
      for (const double broken : {.05, .1, .3, .5, 1.}) {
        for (const double floor : {0., .005, .04}) {
          SCOPED_TRACE(absl::StrCat("each ", each, " times, noise ", noise, ", broken ", broken, ", floor ",
                                    floor, ", seed ", kSeed));
          std::mt19937_64 random(kSeed);
          std::binomial_distribution<uint64_t> few(each, noise);
          GateRun run(PlanWith({ErrorCheck(floor)}));
          const auto after = RolledBackAfter(run, 240, [&](int) {
            return Reads(kSubjects, [&](uint64_t subject) {
              const bool bad = subject % kNewIsOneIn == 0 &&
                               static_cast<double>(subject) < broken * static_cast<double>(kSubjects);
              return bad ? AllBad(each) : Seen{each, few(random)};
            });
          });
          if (broken == 1) {
            EXPECT_LE(after.value_or(99), 2) << run.Evaluate().sentence;
          }
          if (broken >= .3) {
            EXPECT_LE(after.value_or(99), 36) << run.Evaluate().sentence;
          }
        }
      }
    }
  }
}

TEST(GateKeySetsTest, ErrorsOfBothSidesAlikePass) {
  for (const uint64_t each : {2u, 20u, 100u}) {
    for (const double noise : {.001, .01}) {
      for (const double floor : {0., .005}) {
        SCOPED_TRACE(
            absl::StrCat("each ", each, " times, noise ", noise, ", floor ", floor, ", seed ", kSeed));
        std::mt19937_64 random(kSeed);
        std::binomial_distribution<uint64_t> few(each, noise);
        GateRun run(PlanWith({ErrorCheck(floor)}));
        int bucket = 0;
        for (; bucket < 240 && run.EvaluateVerdict() == Verdict::kHold; ++bucket) {
          run.Add(Reads(500, [&](uint64_t) { return Seen{each, few(random)}; }));
        }
        EXPECT_EQ(VerdictName(run.EvaluateVerdict()), VerdictName(Verdict::kAdvance)) << bucket;
      }
    }
  }
}

// More records in a bucket than can be named, each another one, at a rate of exactly the budget.
TEST(GateKeySetsTest, UnnamedRecordsAreNotCertifiedAway) {
  int advanced = 0;
  for (uint64_t seed = kSeed; seed < kSeed + 10; ++seed) {
    std::mt19937_64 random(seed);
    GateRun run(PlanWith({MismatchCheck(.05)}));
    for (int bucket = 0; bucket < 20 && run.EvaluateVerdict() != Verdict::kAdvance; ++bucket) {
      run.Add(Comparisons(
          20'000,
          [&](uint64_t) {
            return Seen{1, std::bernoulli_distribution(.05)(random) ? 1u : 0u};
          },
          random()));
    }
    advanced += run.EvaluateVerdict() == Verdict::kAdvance;
  }
  EXPECT_EQ(advanced, 0) << "seeds from " << kSeed;
}

// Tenants that are served by both sides, nine reads of ten by old: old's have all had an error long before
// new's, which must neither look worse for it nor, with twice the rate, be let through by it.
TEST(GateKeySetsTest, TenantsOfBothSides) {
  const struct {
    const char* name;
    double old_rate, new_rate, floor;
    uint64_t reads;  // in a bucket
    Verdict never;
  } kCases[] = {
      {"alike", .01, .01, .04, 100, Verdict::kRollBack},
      {"alike, many reads", .01, .01, .04, 2'500, Verdict::kRollBack},
      {"a little worse", .01, .011, 0, 100, Verdict::kRollBack},
      {"a little worse, many reads", .01, .011, 0, 2'500, Verdict::kRollBack},
      {"twice as bad", .01, .02, .02, 100, Verdict::kAdvance},
      {"twice as bad, rarely", .0002, .0004, .0004, 2'500, Verdict::kAdvance},
      {"ten times as bad", .01, .1, .02, 2'500, Verdict::kAdvance},
  };
  for (const auto& test : kCases) {
    for (uint64_t seed = kSeed; seed < kSeed + 5; ++seed) {
      SCOPED_TRACE(absl::StrCat(test.name, ", seed ", seed));
      std::mt19937_64 random(seed);
      GateRun run(PlanWith({ErrorCheck(test.floor)}));
      Verdict verdict = Verdict::kHold;
      for (int bucket = 0; bucket < 720 && verdict == Verdict::kHold; ++bucket) {
        WindowStats window;
        for (uint64_t i = 0; i < test.reads; ++i) {
          const size_t arm = random() % 10 == 0 ? 1 : 0;
          const uint64_t hash = HashOf(kSalt, random() % 50);
          const double rate = arm == 1 ? test.new_rate : test.old_rate;
          ++window.arms[arm].requests;
          AddTrials(hash, 1, window.subjects.reads[arm]);
          if (!std::bernoulli_distribution(rate)(random)) continue;
          ++window.arms[arm].errors;
          AddEvents(hash, 1, window.subjects.errors[arm]);
        }
        run.Add(window);
        verdict = run.EvaluateVerdict();
      }
      EXPECT_NE(VerdictName(verdict), VerdictName(test.never)) << run.Evaluate().sentence;
      if (test.reads > 100 && test.new_rate == test.old_rate) {
        EXPECT_EQ(verdict, Verdict::kAdvance) << run.Evaluate().sentence;
      }
      if (test.new_rate == .1) {
        EXPECT_EQ(verdict, Verdict::kRollBack) << run.Evaluate().sentence;
      }
    }
  }
}

TEST(GateKeySetsTest, ReadsThatOnlyTheNewSideFails) {
  for (const uint64_t subjects : {10u, 100u, 257u, 512u}) {
    for (const int before : {0, 1, 100}) {
      SCOPED_TRACE(absl::StrCat(subjects, " subjects, ", before, " buckets before the step"));
      GateRun run(ShadowPlan(PairedErrorCheck(.01)));
      for (int i = 0; i < before; ++i) run.Add(OnlyNewFails(subjects, 20));
      run.BeginStep(1);
      EXPECT_LE(RolledBackAfter(run, 20, [&](int) { return OnlyNewFails(subjects, 20); }).value_or(99), 2)
          << run.Evaluate().sentence;
    }
  }
}

}  // namespace
}  // namespace lockstep::domain
