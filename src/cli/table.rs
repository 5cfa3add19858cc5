//! Tables as Docker prints them: columns of at least 10 characters, three spaces apart, no
//! borders, nothing behind the last cell.

use console::measure_text_width;

const MIN_WIDTH: usize = 10;
const PADDING: usize = 3;

/// Aligns text whose cells are ended by tabs, a row per line, as Go's tabwriter does: a column is
/// a run of neighbouring lines that have a cell there, and the last cell of a line belongs to none.
pub fn align(text: &str) -> String {
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<Vec<usize>> = rows.iter().map(|row| vec![0; row.len() - 1]).collect();
    for first in 0..rows.len() {
        for column in 0..widths[first].len() {
            if widths[first][column] == 0 {
                set_width(&rows, &mut widths, first, column);
            }
        }
    }
    let mut aligned = String::with_capacity(text.len() * 2);
    for (row, widths) in rows.iter().zip(&widths) {
        for (cell, width) in row.iter().zip(widths) {
            aligned.push_str(cell);
            aligned.extend(std::iter::repeat_n(' ', width.saturating_sub(measure_text_width(cell))));
        }
        aligned.push_str(row.last().copied().unwrap_or_default());
        aligned.push('\n');
    }
    aligned
}

/// Sets the width of the column that begins in row `first`, in all rows that share it.
fn set_width(rows: &[Vec<&str>], widths: &mut [Vec<usize>], first: usize, column: usize) {
    let shared = widths[first..].iter().take_while(|row| row.len() > column).count();
    let range = first..first + shared;
    let widest = rows[range.clone()].iter().map(|row| measure_text_width(row[column]) + PADDING).max();
    let width = widest.unwrap_or(0).max(MIN_WIDTH);
    for row in &mut widths[range] {
        row[column] = width;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_docker_images() {
        let text = "REPOSITORY\tTAG\tIMAGE ID\tCREATED\tSIZE\nbusybox\tlatest\t6fd955f66c23\t16 months ago\t4.26MB\n";
        insta::assert_snapshot!(align(text), @r"
        REPOSITORY   TAG       IMAGE ID       CREATED         SIZE
        busybox      latest    6fd955f66c23   16 months ago   4.26MB
        ");
    }

    #[test]
    fn columns_end_where_a_line_has_no_cell() {
        insta::assert_snapshot!(align("a\tb\nno cells\na very long cell\tb\n"), @r"
        a         b
        no cells
        a very long cell   b
        ");
        assert_eq!(align(""), "");
    }

    #[test]
    fn wide_characters_take_two_columns() {
        assert_eq!(align("日本語日本語\tx\n"), "日本語日本語   x\n");
    }
}
