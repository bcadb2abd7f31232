"""What Millpond's services share. No service imports another: they meet in topics and in this package."""
