//! How many points lie in each of many corners of the plane, in O(n log n) for all of them together.

/// For each corner `(x, y)` the number of points `(a, b)` with `a <= x` and `b >= y`.
pub(super) fn count_in_corners(points: &mut [(u64, u64)], corners: &[(u64, u64)]) -> Vec<u64> {
    let mut heights: Vec<u64> = points.iter().map(|(_, b)| *b).collect();
    heights.sort_unstable();
    heights.dedup();
    points.sort_unstable();
    let mut order: Vec<usize> = (0..corners.len()).collect();
    order.sort_unstable_by_key(|at| corners[*at].0);

    // A Fenwick tree of the points so far, by their height.
    let mut tree = vec![0u64; heights.len() + 1];
    let mut counts = vec![0; corners.len()];
    let mut coming = points.iter().peekable();
    let mut total = 0;
    for at in order {
        let (x, y) = corners[at];
        while let Some((_, height)) = coming.next_if(|(a, _)| *a <= x) {
            total += 1;
            let mut place = heights.partition_point(|other| other < height) + 1;
            while place < tree.len() {
                tree[place] += 1;
                place += place & place.wrapping_neg();
            }
        }
        let mut place = heights.partition_point(|height| *height < y);
        let mut lower = 0;
        while place > 0 {
            lower += tree[place];
            place -= place & place.wrapping_neg();
        }
        counts[at] = total - lower;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::count_in_corners;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn as_counted_one_by_one(
            mut points in proptest::collection::vec((0..12u64, 0..12u64), 0..40),
            corners in proptest::collection::vec((0..13u64, 0..13u64), 0..40),
        ) {
            let one_by_one: Vec<u64> = corners
                .iter()
                .map(|(x, y)| points.iter().filter(|(a, b)| a <= x && b >= y).count() as u64)
                .collect();
            prop_assert_eq!(count_in_corners(&mut points, &corners), one_by_one);
        }
    }
}
