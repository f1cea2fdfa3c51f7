// Aligned columns for terminals.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "client/cli/terminal.h"

namespace lockstep::cli {

struct Cell {
  Cell(std::string text, Tone tone = Tone::kPlain) : text(std::move(text)), tone(tone) {}  // NOLINT: converts
  Cell(const char* text) : text(text) {}                                                   // NOLINT: converts
  std::string text;
  Tone tone = Tone::kPlain;
};

// Cells are made printable (text.h) when they are added. Not thread-safe.
class Table {
 public:
  // Without headers there is no header line, and the first row sets the number of columns.
  explicit Table(std::vector<std::string> headers = {}) : headers_(std::move(headers)) {}

  // An empty cell is shown as "-" when there are headers. Every row has the same number of cells.
  void AddRow(std::vector<Cell> row);
  bool empty() const { return rows_.empty(); }

  // Lines that start with `indent` and end with a line break, without trailing blanks.
  std::string ToString(const Style& style, absl::string_view indent = "") const;

 private:
  std::vector<std::string> headers_;
  std::vector<std::vector<Cell>> rows_;
};

}  // namespace lockstep::cli
