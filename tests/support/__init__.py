"""What several tests need: a kernel that is only pretended, policies made up, and packets judged on paper."""
