#include "tests/model/search.h"

#include <algorithm>
#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"

namespace lockstep::model {
namespace {

constexpr uint32_t kNobody = ~uint32_t{0};

struct Node {
  World world;
  uint32_t parent = kNobody;
  const char* step = "";
};

struct Edge {
  uint32_t from, to;
};

std::vector<std::string> WayTo(const std::vector<Node>& nodes, uint32_t index) {
  std::vector<std::string> way;
  for (uint32_t i = index; i != kNobody; i = nodes[i].parent) {
    way.push_back(absl::StrCat(nodes[i].step, " -> ", ToString(nodes[i].world)));
  }
  std::reverse(way.begin(), way.end());
  return way;
}

// Marks what can reach a world without a goal, going backwards.
void FindTraps(const std::vector<Node>& nodes, std::vector<Edge> edges, SearchResult* result) {
  std::sort(edges.begin(), edges.end(), [](const Edge& a, const Edge& b) { return a.to < b.to; });
  std::vector<uint32_t> first(nodes.size() + 1, 0);
  for (const Edge& edge : edges) ++first[edge.to + 1];
  for (size_t i = 1; i < first.size(); ++i) first[i] += first[i - 1];
  std::vector<bool> arrives(nodes.size(), false);
  std::vector<uint32_t> queue;
  for (uint32_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i].world.goal != kNoState) continue;
    arrives[i] = true;
    queue.push_back(i);
  }
  while (!queue.empty()) {
    const uint32_t to = queue.back();
    queue.pop_back();
    for (uint32_t e = first[to]; e < first[to + 1]; ++e) {
      const uint32_t from = edges[e].from;
      if (arrives[from]) continue;
      arrives[from] = true;
      queue.push_back(from);
    }
  }
  for (uint32_t i = 0; i < nodes.size(); ++i) {
    if (arrives[i]) continue;
    if (result->traps++ == 0) result->trap = ToString(nodes[i].world);
  }
}

}  // namespace

SearchResult Search(Faults faults, const Rules& rules, const std::vector<StateId>& goals, size_t max_worlds) {
  SearchResult result;
  std::vector<Node> nodes(1);
  std::vector<Edge> edges;
  absl::flat_hash_map<World, uint32_t> seen;
  seen.emplace(nodes[0].world, 0);
  std::vector<Step> steps;
  for (uint32_t i = 0; i < nodes.size(); ++i) {
    result.violation = FindViolation(nodes[i].world, faults);
    if (!result.violation.empty()) {
      result.way = WayTo(nodes, i);
      break;
    }
    if (nodes.size() > max_worlds) break;
    Successors(World(nodes[i].world), faults, rules, goals, &steps);
    result.transitions += steps.size();
    for (const Step& step : steps) {
      const auto [it, is_new] = seen.emplace(step.to, static_cast<uint32_t>(nodes.size()));
      if (is_new) nodes.push_back({step.to, i, step.name});
      if (!step.command) edges.push_back({i, it->second});
    }
    result.complete = i + 1 == nodes.size();
  }
  result.worlds = nodes.size();
  if (result.complete) FindTraps(nodes, std::move(edges), &result);
  return result;
}

}  // namespace lockstep::model
