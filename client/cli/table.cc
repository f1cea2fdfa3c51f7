#include "client/cli/table.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "client/cli/text.h"
#include "core/base/check.h"

namespace lockstep::cli {
namespace {

constexpr absl::string_view kGap = "  ";

void AppendLine(const std::vector<Cell>& cells, const std::vector<size_t>& widths, const Style& style,
                absl::string_view indent, std::string* out) {
  std::string line(indent);
  size_t blanks = 0;  // owed before the next text: a line never ends with them
  for (size_t i = 0; i < cells.size(); ++i) {
    if (i > 0) blanks += kGap.size();
    if (!cells[i].text.empty()) {
      line.append(blanks, ' ');
      blanks = 0;
      absl::StrAppend(&line, Paint(style, cells[i].tone, cells[i].text));
    }
    blanks += widths[i] - DisplayWidth(cells[i].text);
  }
  absl::StrAppend(out, line, "\n");
}

}  // namespace

void Table::AddRow(std::vector<Cell> row) {
  const size_t columns = !headers_.empty() ? headers_.size() : !rows_.empty() ? rows_[0].size() : row.size();
  LOCKSTEP_CHECK(row.size() == columns, "every row of a table has the same number of cells");
  for (Cell& cell : row) {
    cell.text = Printable(cell.text);
    if (cell.text.empty() && !headers_.empty()) cell.text = "-";
  }
  rows_.push_back(std::move(row));
}

std::string Table::ToString(const Style& style, absl::string_view indent) const {
  std::vector<Cell> header;
  for (const std::string& text : headers_) header.emplace_back(text, Tone::kStrong);
  std::vector<size_t> widths(!header.empty() ? header.size() : rows_.empty() ? 0 : rows_[0].size());
  const auto widen = [&](const std::vector<Cell>& row) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], DisplayWidth(row[i].text));
  };
  widen(header);
  for (const auto& row : rows_) widen(row);
  std::string out;
  if (!header.empty()) AppendLine(header, widths, style, indent, &out);
  for (const auto& row : rows_) AppendLine(row, widths, style, indent, &out);
  return out;
}

}  // namespace lockstep::cli
