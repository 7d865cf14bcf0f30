"""anycompany"""
