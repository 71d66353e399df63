"""What users import: flows, faces and gates."""
